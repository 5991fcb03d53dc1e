//! Names that must not be mistaken for one another.
//!
//! Each is its own type, so that a team's id cannot be passed where a user's is wanted:
//! ```compile_fail
//! # use tollgate_domain::ids::*;
//! let team: TeamId = UserId::new("u-1");
//! ```

use std::fmt;
use std::str::FromStr;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Takes the text as it is.
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id! {
    /// An organization's id, as the admin API names it.
    OrganizationId
}
text_id! {
    /// A team's id, as the admin API names it.
    TeamId
}
text_id! {
    /// A user's id, as the admin API names it.
    UserId
}
text_id! {
    /// The provider's own name of a model, aliases resolved.
    ModelName
}

/// Not the hexadecimal text that an id is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not {hex_digits} hexadecimal digits")]
pub struct NotHex {
    /// How many digits the id has.
    pub hex_digits: usize,
}

macro_rules! bytes_id {
    ($(#[$doc:meta])* $name:ident, $length:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $length]);

        impl $name {
            /// Bytes of an id.
            pub const LENGTH: usize = $length;

            /// Takes the bytes as they are.
            pub const fn new(bytes: [u8; $length]) -> Self {
                Self(bytes)
            }

            /// The bytes.
            pub const fn as_bytes(&self) -> &[u8; $length] {
                &self.0
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = std::array::TryFromSliceError;

            fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
                bytes.try_into().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = NotHex;

            fn from_str(text: &str) -> Result<Self, NotHex> {
                decode_hex(text).map(Self)
            }
        }
    };
}

bytes_id! {
    /// The SHA-256 digest of a virtual key: all that is ever stored of it.
    KeyDigest, 32
}
bytes_id! {
    /// 128 random bits that name one hold, made by the filter.
    HoldId, 16
}

fn decode_hex<const N: usize>(text: &str) -> Result<[u8; N], NotHex> {
    let wrong = NotHex { hex_digits: N.saturating_mul(2) };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() || pairs.len() != N {
        return Err(wrong);
    }
    let mut bytes = [0; N];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        let digit = |c: &u8| char::from(*c).to_digit(16).and_then(|d| u8::try_from(d).ok());
        *byte = match (digit(high), digit(low)) {
            (Some(high), Some(low)) => (high << 4) | low,
            _ => return Err(wrong),
        };
    }
    Ok(bytes)
}

/// Why a text is not a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TagError {
    /// Empty, or longer than [`Tag::BYTES_MAX`].
    #[error("must have 1 to 64 bytes")]
    Length,
    /// A character outside of the set.
    #[error("may contain only letters, digits and : . _ / -")]
    Character,
}

/// A label on a request, such as `project:payments-refactor`: 1 to 64 bytes of `[A-Za-z0-9:._/-]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(String);

impl Tag {
    /// Bytes of the longest tag.
    pub const BYTES_MAX: usize = 64;
    /// Tags of one request, from all sources together.
    pub const COUNT_MAX: usize = 16;

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = TagError;

    fn from_str(text: &str) -> Result<Self, TagError> {
        if text.is_empty() || text.len() > Self::BYTES_MAX {
            return Err(TagError::Length);
        }
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b":._/-".contains(&b);
        if text.bytes().all(allowed) { Ok(Self(text.to_owned())) } else { Err(TagError::Character) }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_bytes_survive_their_text() {
        let id = HoldId::new([0xA5; 16]);
        assert_eq!(id.to_string(), "a5".repeat(16));
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in ["", "a5", &"a5".repeat(17), &"g5".repeat(16), &"é".repeat(16)] {
            assert_eq!(wrong.parse::<HoldId>(), Err(NotHex { hex_digits: 32 }), "{wrong}");
        }
    }

    #[test]
    fn tags_have_a_length_and_an_alphabet() {
        assert!("project:payments-refactor".parse::<Tag>().is_ok());
        assert!("a".repeat(64).parse::<Tag>().is_ok());
        assert_eq!("".parse::<Tag>(), Err(TagError::Length));
        assert_eq!("a".repeat(65).parse::<Tag>(), Err(TagError::Length));
        assert_eq!("a b".parse::<Tag>(), Err(TagError::Character));
        assert_eq!("naïve".parse::<Tag>(), Err(TagError::Character));
    }
}
