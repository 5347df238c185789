//! Ids in fewer bytes: decimal numbers and UUIDs, which most ids are.
//!
//! A number takes its bytes, the highest first and none that is zero in front, a UUID its sixteen;
//! so the length tells them apart. Every other id, and every other way to write these two, is kept as
//! text: an id comes back as it was given.

use std::fmt::Write;
use std::ops::Deref;

use arrayvec::{ArrayString, ArrayVec};
use uuid::Uuid;

/// The characters of a UUID.
const UUID_CHARS: usize = 36;
/// The bytes of a UUID.
const UUID_BYTES: usize = 16;

/// An id that was read.
#[derive(Clone, Copy)]
pub(in crate::store) enum Id<'a> {
    /// As it stands there.
    Text(&'a str),
    /// As it stood there before it was packed.
    Unpacked(ArrayString<UUID_CHARS>),
}

impl Deref for Id<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Unpacked(text) => text,
        }
    }
}

impl std::fmt::Debug for Id<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        (**self).fmt(f)
    }
}

/// The bytes of an id that is a number or a UUID as this program writes them.
pub(super) fn pack(id: &str) -> Option<ArrayVec<u8, UUID_BYTES>> {
    let packed = match id.len() {
        UUID_CHARS => ArrayVec::from(Uuid::try_parse(id).ok()?.into_bytes()),
        _ => {
            let number: u64 = id.parse().ok()?;
            let zeros = number.leading_zeros() as usize / 8;
            number.to_be_bytes().into_iter().skip(zeros.min(7)).collect()
        }
    };
    unpack(&packed).is_some_and(|unpacked| *unpacked == *id).then_some(packed)
}

/// The id that was packed as `bytes`.
pub(super) fn unpack(bytes: &[u8]) -> Option<Id<'static>> {
    let mut text = ArrayString::new();
    match bytes.len() {
        // One way to write each number.
        1..=8 if bytes[0] > 0 || bytes.len() == 1 => {
            let number = bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
            write!(text, "{number}").ok()?;
        }
        _ => write!(text, "{}", Uuid::from_slice(bytes).ok()?).ok()?,
    }
    Some(Id::Unpacked(text))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_packs_comes_back_and_the_rest_is_text(
            id in prop_oneof![
                "[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}",
                "[0-9a-fA-F-]{36}",
                "[+0-9]{1,22}",
                any::<u64>().prop_map(|number| number.to_string()),
                ".{0,40}",
            ],
        ) {
            let packed = pack(&id);
            let is_number = id.parse::<u64>().is_ok_and(|number| number.to_string() == id);
            let is_uuid = Uuid::try_parse(&id).is_ok_and(|uuid| uuid.to_string() == id);
            prop_assert_eq!(packed.is_some(), is_number || is_uuid);
            if let Some(packed) = packed {
                prop_assert!(packed.len() <= id.len());
                prop_assert_eq!(&*unpack(&packed).ok_or(TestCaseError::fail("lost"))?, id);
            }
        }

        #[test]
        fn an_id_packs_in_one_way(bytes in prop::collection::vec(prop_oneof![Just(0), any::<u8>()], 0..20)) {
            if let Some(id) = unpack(&bytes) {
                prop_assert_eq!(pack(&id).map(|packed| packed.to_vec()), Some(bytes));
            }
        }
    }
}
