use super::*;

#[test]
fn every_flag_key_and_alias_stands_once() {
    let mut names: Vec<_> = SETTINGS.iter().map(|setting| setting.flag.name).collect();
    names.extend(ALIASES.iter().map(|(alias, _)| *alias));
    names.retain(|name| !name.is_empty());
    names.sort_unstable();
    let keys = SETTINGS.iter().flat_map(|setting| setting.json.split('|'));
    let mut keys: Vec<_> = keys.filter(|key| !key.is_empty()).collect();
    keys.sort_unstable();
    for list in [names, keys] {
        assert!(list.len() > 40);
        let twice = list.windows(2).find(|pair| pair[0] == pair[1]);
        assert_eq!(twice, None);
    }
    assert!(SETTINGS.is_sorted_by_key(|setting| setting.group));
}

/// The same value by flag and by key is the same value, and each is its own source.
#[test]
fn flag_and_key_fill_the_same_field() {
    for setting in SETTINGS {
        if setting.flag.name.is_empty() || setting.json.is_empty() {
            continue;
        }
        let (typed, json) = match setting.flag.kind {
            "" => ("true", "true"),
            "string" if setting.json.contains("Addresses") || setting.json.contains("Peers") => {
                ("/ip4/1.1.1.1/tcp/1", r#"["/ip4/1.1.1.1/tcp/1"]"#)
            }
            "string" => ("/unix/x", r#""/unix/x""#),
            "duration" => ("7s", r#""7s""#),
            "size" => ("7KiB", r#""7KiB""#),
            _ => ("7", "7"),
        };
        let mut flags = Given::default();
        (setting.flag.set)(&mut flags, OsStr::new(typed)).unwrap();
        for key in setting.json.split('|') {
            let depth = key.matches('.').count() + 1;
            let text = format!(
                "{{\"{}\": {json}{}",
                key.replace('.', "\": {\""),
                "}".repeat(depth)
            );
            let file = Given::from_json(text.as_bytes(), &mut Vec::new()).unwrap();
            let values = |flags: &Given, file: &Given| Values::settle(flags, file);
            let none = Given::default();
            let (by_flag, by_file) = (values(&flags, &none), values(&none, &file));
            let shown = |values: &Values| {
                // An address keeps the key that it came from.
                let text = format!("{values:?}");
                text.replace(&format!("Some(\"Config.{key}\")"), "None")
                    .replace(&format!("Some(\"Config.{key}[0]\")"), "None")
            };
            assert_eq!(shown(&by_flag), shown(&by_file), "{key}");
            let sources = Sources::of(&none, &file);
            assert_eq!(sources.source(setting.flag.name), Source::File, "{key}");
        }
        let sources = Sources::of(&flags, &Given::default());
        assert_eq!(sources.source(setting.flag.name), Source::Flag);
    }
}

#[test]
fn every_default_that_is_shown_reads_back_as_no_change() {
    let mut shown = 0;
    for setting in SETTINGS {
        let default = (setting.flag.default)();
        if default.is_empty() {
            continue;
        }
        shown += 1;
        let mut given = Given::default();
        (setting.flag.set)(&mut given, OsStr::new(&default)).unwrap();
        assert!(!(setting.is_changed)(&given), "-{}", setting.flag.name);
    }
    assert!(shown > 25, "{shown}");
}
