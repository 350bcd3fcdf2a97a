//! The macro behind the table.

/// Declares [`Given`](super::Given), what was given of the settings, [`Values`](super::Values),
/// what is in force, and the table itself.
///
/// A row: field, flag, JSON key, type, `= default` if it has one, how flag and file are merged,
/// unit, effect, help. Without a default the field of `Values` is an `Option`.
macro_rules! settings {
    ($($group:ident {$(
        $field:ident $flag:literal $json:literal $type:ty $(= $default:expr)?,
        $merge:ident, $unit:literal, $effect:ident, $help:literal;
    )*})*) => {
        /// What the command line or the JSON file says; `None` is a setting that is not there.
        #[derive(Debug, Clone, Default, PartialEq)]
        pub struct Given {
            $($(
                #[doc = concat!("`-", $flag, "`, `", $json, "`: ", $help, ".")]
                pub $field: Option<$type>,
            )*)*
        }

        /// What is in force: flags over the file over the defaults.
        #[derive(Debug, Clone, PartialEq)]
        pub struct Values {
            $($(
                #[doc = concat!("`-", $flag, "`, `", $json, "`: ", $help, ".")]
                pub $field: settings!(@settled $type $(, $default)?),
            )*)*
        }

        impl Values {
            /// Lays `flags` over `file` over the defaults.
            #[must_use]
            pub fn settle(flags: &Given, file: &Given) -> Self {
                Self {$($(
                    $field: {
                        let merged = $merge(flags.$field.clone(), file.$field.clone());
                        settings!(@settle merged $(, <$type>::from($default))?)
                    },
                )*)*}
            }
        }

        pub(crate) const SETTINGS: &[Setting] = &[$($(Setting {
            flag: Flag {
                name: $flag,
                kind: <$type as Value>::KIND,
                default: || settings!(@shown $(<$type>::from($default))?),
                help: $help,
                is_path: <$type as Value>::IS_PATH,
                set: |given, text| {
                    given.$field = Some(<$type as Value>::read(text)?);
                    Ok(())
                },
            },
            json: $json,
            unit: $unit,
            group: Group::$group,
            effect: Effect::$effect,
            set_json: |given, found, notices| {
                let value = <$type as Value>::from_json(found, notices)?;
                given.$field = (!value.is_absent()).then_some(value);
                Ok(())
            },
            is_given: |given| given.$field.is_some(),
            is_changed: |given| {
                let default = settings!(@default $type $(, <$type>::from($default))?);
                given.$field.as_ref().is_some_and(|value| *value != default)
            },
        },)*)*];
    };
    (@settled $type:ty) => { Option<$type> };
    (@settled $type:ty, $default:expr) => { $type };
    (@settle $merged:ident) => { $merged };
    (@settle $merged:ident, $default:expr) => { $merged.unwrap_or_else(|| $default) };
    (@default $type:ty) => { <$type as Default>::default() };
    (@default $type:ty, $default:expr) => { $default };
    // Go's usage does not show a default of false.
    (@shown) => { String::new() };
    (@shown $default:expr) => {{
        let shown = Value::show(&$default);
        if shown == "false" { String::new() } else { shown }
    }};
}

pub(super) use settings;
