//! Tables of keys, declared once: from the declaration follow the type, the default, the reading and the reference.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::file::Reader;
use crate::value::Value;

/// A key as the reference prints it.
pub(crate) struct Field {
    pub(crate) name: &'static str,
    /// Its sentences, a line each, as they stand above it in the declaration.
    pub(crate) doc: &'static [&'static str],
    pub(crate) shown: Shown,
}

pub(crate) enum Shown {
    /// A value in TOML; `None` if it is not set.
    Value(Option<String>),
    Table(Vec<Field>),
    /// The tables there are, and one with nothing but defaults.
    Tables {
        tables: Vec<Vec<Field>>,
        template: Vec<Field>,
    },
}

/// What can stand behind a key: a value, a table, or tables.
pub(crate) trait Item: Sized {
    /// Reads it, or notes the mistakes. `path` is dotted, as an operator would say it.
    fn read(value: &Spanned<DeValue<'_>>, path: &str, reader: &mut Reader<'_>) -> Option<Self>;
    fn shown(&self) -> Shown;
}

impl<V: Value> Item for V {
    fn read(value: &Spanned<DeValue<'_>>, _: &str, reader: &mut Reader<'_>) -> Option<Self> {
        match V::read(value.get_ref(), reader.base()) {
            Ok(read) => Some(read),
            Err(message) => {
                reader.complain(value.span(), message);
                None
            }
        }
    }

    fn shown(&self) -> Shown {
        Shown::Value(self.toml())
    }
}

/// A table with known keys.
pub(crate) trait Section: Default {
    const KEYS: &'static [&'static str];
    /// Keys without which the table means nothing.
    const REQUIRED: &'static [&'static str];

    /// Reads one of `KEYS`.
    fn read_key(&mut self, key: &str, value: &Spanned<DeValue<'_>>, path: &str, reader: &mut Reader<'_>);
    fn fields(&self) -> Vec<Field>;
}

pub(crate) fn read_section<S: Section>(
    value: &Spanned<DeValue<'_>>,
    path: &str,
    reader: &mut Reader<'_>,
) -> Option<S> {
    match value.get_ref().as_table() {
        Some(table) => Some(read_table(table, value.span(), path, reader)),
        None => {
            let kind = value.get_ref().type_str();
            reader.complain(value.span(), format!("this is a TOML {kind}; write a table, [{path}]"));
            None
        }
    }
}

pub(crate) fn read_table<S: Section>(
    table: &DeTable<'_>,
    span: std::ops::Range<usize>,
    path: &str,
    reader: &mut Reader<'_>,
) -> S {
    let mut section = S::default();
    for (key, value) in table {
        let name: &str = key.get_ref();
        let inner = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        if S::KEYS.contains(&name) {
            reader.place(&inner, key.span());
            section.read_key(name, value, &inner, reader);
        } else {
            reader.unknown(key.span(), name, path, S::KEYS);
        }
    }
    for key in S::REQUIRED.iter().filter(|key| !table.iter().any(|(name, _)| name.get_ref() == *key)) {
        reader.complain(span.clone(), format!("[[{path}]] lacks {key}; write {key} = ..."));
    }
    section
}

/// An array of tables: `[[auth.passdb]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Tables<T>(pub Vec<T>);

impl<T> Default for Tables<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> std::ops::Deref for Tables<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<S: Section> Item for Tables<S> {
    fn read(value: &Spanned<DeValue<'_>>, path: &str, reader: &mut Reader<'_>) -> Option<Self> {
        let Some(array) = value.get_ref().as_array() else {
            let kind = value.get_ref().type_str();
            reader.complain(value.span(), format!("this is a TOML {kind}; write [[{path}]], once for each"));
            return None;
        };
        let mut tables = Vec::new();
        for (index, element) in array.iter().enumerate() {
            reader.place(&format!("{path}[{index}]"), element.span());
            match element.get_ref().as_table() {
                Some(table) => {
                    tables.push(read_table(table, element.span(), &format!("{path}[{index}]"), reader));
                }
                None => reader.complain(element.span(), format!("write a table, [[{path}]]")),
            }
        }
        Some(Self(tables))
    }

    fn shown(&self) -> Shown {
        Shown::Tables {
            tables: self.0.iter().map(Section::fields).collect(),
            template: S::default().fields(),
        }
    }
}

/// Declares a section: struct, defaults, reading and reference in one.
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        $name:ident requires [$($required:literal),*] {
            $($(#[doc = $doc:literal])+ $key:ident: $kind:ty = $default:expr),* $(,)?
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name { $($(#[doc = $doc])+ pub $key: $kind),* }

        impl Default for $name {
            fn default() -> Self {
                Self { $($key: $default),* }
            }
        }

        impl $crate::section::Section for $name {
            const KEYS: &'static [&'static str] = &[$(stringify!($key)),*];
            const REQUIRED: &'static [&'static str] = &[$($required),*];

            fn read_key(
                &mut self,
                key: &str,
                value: &toml::Spanned<toml::de::DeValue<'_>>,
                path: &str,
                reader: &mut $crate::file::Reader<'_>,
            ) {
                $(if key == stringify!($key) {
                    if let Some(read) = $crate::section::Item::read(value, path, reader) {
                        self.$key = read;
                    }
                })*
            }

            fn fields(&self) -> Vec<$crate::section::Field> {
                vec![$($crate::section::Field {
                    name: stringify!($key),
                    doc: &[$($doc),+],
                    shown: $crate::section::Item::shown(&self.$key),
                }),*]
            }
        }

        impl $crate::section::Item for $name {
            fn read(
                value: &toml::Spanned<toml::de::DeValue<'_>>,
                path: &str,
                reader: &mut $crate::file::Reader<'_>,
            ) -> Option<Self> {
                $crate::section::read_section(value, path, reader)
            }

            fn shown(&self) -> $crate::section::Shown {
                $crate::section::Shown::Table($crate::section::Section::fields(self))
            }
        }
    };
}
pub(crate) use section;

/// Declares a section whose keys come with a later version: it may stand there, empty.
macro_rules! reserved {
    ($(#[doc = $about:literal])+ $name:ident) => {
        $(#[doc = $about])+
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name;

        impl $crate::section::Item for $name {
            fn read(
                value: &toml::Spanned<toml::de::DeValue<'_>>,
                path: &str,
                reader: &mut $crate::file::Reader<'_>,
            ) -> Option<Self> {
                for (key, _) in value.get_ref().as_table().into_iter().flatten() {
                    let message = format!("this version has nothing to set in [{path}]; leave {} out", key.get_ref());
                    reader.complain(key.span(), message);
                }
                Some(Self)
            }

            fn shown(&self) -> $crate::section::Shown {
                $crate::section::Shown::Table(Vec::new())
            }
        }
    };
}
pub(crate) use reserved;
