//! The messages of the control protocol as tables, for their form in JSON (`src/wire/json`).

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};

const PACKAGE: &str = "p2pd.pb";

/// What a connection carries.
const ROOTS: [&str; 4] = ["Request", "Response", "DHTResponse", "PSMessage"];

/// Field 9 of a request is one of two messages, which only its type tells (COMPATIBILITY.md 4.2).
const EXTENSIONS: [(&str, &str, &str); 2] = [
    (
        "removeStreamHandler",
        "RemoveStreamHandlerRequest",
        "extension",
    ),
    ("peerstore", "PeerstoreRequest", "extension"),
];

/// The name under which a field is known, what it holds, and the message that this is.
type Row = (String, String, Option<String>);

struct Schema<'a> {
    messages: BTreeMap<String, &'a DescriptorProto>,
    enums: BTreeMap<String, &'a EnumDescriptorProto>,
}

/// The tables, as Rust.
pub(crate) fn tables(set: &FileDescriptorSet) -> Result<String, Box<dyn std::error::Error>> {
    let file = set.file.iter().find(|file| file.package() == PACKAGE);
    let file = file.ok_or("no file of the control protocol")?;
    let mut schema = Schema {
        messages: BTreeMap::new(),
        enums: BTreeMap::new(),
    };
    for one in &file.enum_type {
        schema.enums.insert(one.name().to_owned(), one);
    }
    for message in &file.message_type {
        schema.add(message.name().to_owned(), message);
    }
    let mut out = String::new();
    let mut wanted: Vec<String> = ROOTS.map(str::to_owned).to_vec();
    let mut done = BTreeSet::new();
    while let Some(name) = wanted.pop() {
        if done.insert(name.clone()) {
            schema.message(&name, &mut out, &mut wanted)?;
        }
    }
    Ok(out)
}

impl<'a> Schema<'a> {
    fn add(&mut self, name: String, message: &'a DescriptorProto) {
        for one in &message.enum_type {
            self.enums.insert(format!("{name}.{}", one.name()), one);
        }
        for one in &message.nested_type {
            self.add(format!("{name}.{}", one.name()), one);
        }
        self.messages.insert(name, message);
    }

    fn message(
        &self,
        name: &str,
        out: &mut String,
        wanted: &mut Vec<String>,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let message = self.messages.get(name).ok_or("a type that is not there")?;
        writeln!(
            out,
            "pub(super) static {}: Message = Message {{ name: {name:?}, fields: &[",
            constant(name)
        )?;
        for field in &message.field {
            for (shown, kind, refers) in self.field(name, field)? {
                let repeated = field.label() == Label::Repeated && shown == field.name();
                writeln!(
                    out,
                    "    Field {{ name: {shown:?}, number: {}, repeated: {repeated}, kind: {kind} }},",
                    field.number()
                )?;
                wanted.extend(refers);
            }
        }
        writeln!(out, "] }};")?;
        Ok(())
    }

    /// The names under which a field is known, what it holds, and the message that this is.
    fn field(
        &self,
        message: &str,
        field: &FieldDescriptorProto,
    ) -> Result<Vec<Row>, Box<dyn std::error::Error>> {
        let refers = field.type_name().trim_start_matches('.');
        let refers = refers.strip_prefix(PACKAGE).unwrap_or(refers);
        let refers = refers.trim_start_matches('.').to_owned();
        let of_message = |name: &str| format!("Kind::Message(&{})", constant(name));
        let of = EXTENSIONS
            .iter()
            .filter(|one| message == "Request" && one.2 == field.name());
        let of: Vec<_> = of
            .map(|(name, kind, _)| {
                (
                    (*name).to_owned(),
                    of_message(kind),
                    Some((*kind).to_owned()),
                )
            })
            .collect();
        if !of.is_empty() {
            return Ok(of);
        }
        // Types are numbers on the wire, so that any may come.
        let own = format!("{message}.Type");
        let kind = match field.r#type() {
            Type::Int64 if field.name() == "type" && self.enums.contains_key(&own) => {
                self.enumeration(&own)?
            }
            Type::Enum => self.enumeration(&refers)?,
            Type::Int32 | Type::Int64 => "Kind::Signed".into(),
            Type::Uint32 | Type::Uint64 => "Kind::Unsigned".into(),
            Type::Bool => "Kind::Bool".into(),
            Type::String => "Kind::Bytes(Form::Text)".into(),
            Type::Bytes => format!("Kind::Bytes(Form::{})", form(message, field.name())),
            Type::Message => of_message(&refers),
            other => return Err(format!("{message}.{}: {other:?}", field.name()).into()),
        };
        let refers = (field.r#type() == Type::Message).then_some(refers);
        Ok(vec![(field.name().to_owned(), kind, refers)])
    }

    fn enumeration(&self, name: &str) -> Result<String, Box<dyn std::error::Error>> {
        let values = &self
            .enums
            .get(name)
            .ok_or("an enumeration that is not there")?
            .value;
        let mut values: Vec<_> = values
            .iter()
            .map(|value| format!("({:?}, {})", value.name(), value.number()))
            .collect();
        if name == "Request.Type" {
            // The other meaning of 9.
            values.push("(\"PEERSTORE\", 9)".into());
        }
        Ok(format!("Kind::Enum(&[{}])", values.join(", ")))
    }
}

fn constant(name: &str) -> String {
    name.replace('.', "_").to_uppercase()
}

/// How people write what a field of bytes holds.
fn form(message: &str, field: &str) -> &'static str {
    match (message, field) {
        ("Response", "status") => "Json",
        ("DHTRequest", "cid") => "Cid",
        ("PSMessage", "key") => "Data",
        (_, "peer" | "peers" | "peerIDs" | "id" | "allow" | "from" | "after" | "next") => "Peer",
        (_, "addr" | "addrs" | "listen" | "target") | ("ProbedAddress", "name") => "Address",
        (
            _,
            "proto" | "protos" | "topic" | "topics" | "topicIDs" | "tag" | "agent" | "namespace"
            | "key" | "name" | "reason" | "network",
        ) => "Text",
        _ => "Data",
    }
}
