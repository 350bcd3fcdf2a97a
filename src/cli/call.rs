//! What the words after `call` ask for.

use std::ffi::OsString;

use serde_json::{Map, Value};

use super::{Command, Question, Stop, invocation::Invocation};

/// One request, whose parameters are a JSON document or words of the form `field=value`.
pub(super) fn call(invocation: &Invocation) -> Result<Command, Stop> {
    let (daemon, words) = invocation.daemon(invocation.words.clone())?;
    let words: Vec<String> = words.iter().map(text).collect();
    let Some((verb, rest)) = words.split_first() else {
        return Err(invocation.refused("name a request, as in: call identify"));
    };
    let part = match rest {
        [] => String::new(),
        [document] if document.trim_start().starts_with('{') => document.clone(),
        fields => object(fields).map_err(|word| {
            let word = crate::wording::quote(word);
            invocation.refused(&format!("{word}: not field=value, and not a JSON document"))
        })?,
    };
    let verb = verb.clone();
    Ok(Command::Ask(daemon, Question::Call { verb, part }))
}

fn text(word: &OsString) -> String {
    word.to_string_lossy().into_owned()
}

/// The document of `fields`. One that stands several times is a list; dots lead into others.
fn object(fields: &[String]) -> Result<String, &str> {
    let mut all = Map::new();
    for word in fields {
        let (path, value) = word.split_once('=').ok_or(word.as_str())?;
        let mut names = path.split('.');
        let last = names.next_back().filter(|name| !name.is_empty());
        let last = last.ok_or(word.as_str())?;
        let mut inside = &mut all;
        for name in names {
            let entry = inside.entry(name).or_insert_with(|| Map::new().into());
            inside = entry.as_object_mut().ok_or(word.as_str())?;
        }
        let value = Value::from(value);
        match inside.get_mut(last) {
            None => drop(inside.insert(last.to_owned(), value)),
            Some(Value::Array(list)) => list.push(value),
            Some(Value::Object(_)) => return Err(word),
            Some(one) => *one = vec![one.take(), value].into(),
        }
    }
    Ok(Value::from(all).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_a_document() {
        let read = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            object(&words).map_err(str::to_owned)
        };
        let told = read(&[
            "peer=a",
            "addrs=x",
            "addrs=y=z",
            "addrs=",
            "query.limit=3",
            "query.agent=go",
        ]);
        let document = r#"{"addrs":["x","y=z",""],"peer":"a","query":{"agent":"go","limit":"3"}}"#;
        assert_eq!(told.as_deref(), Ok(document));
        for wrong in [&["a"][..], &["=b"], &["a=1", "a.b=2"], &["a.b=1", "a=2"]] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }
}
