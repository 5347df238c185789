//! Ids in fewer bytes: decimal numbers and UUIDs, which most ids are.
//!
//! A number takes its bytes, the highest first and none that is zero in front, a UUID its sixteen;
//! so the length tells them apart. Every other id, and every other way to write these two, is kept as
//! text: an id comes back as it was given.

use std::fmt;
use std::ops::Deref;

use arrayvec::{ArrayString, ArrayVec};
use uuid::Uuid;

/// The characters of a UUID.
const UUID_CHARS: usize = 36;
/// The bytes of a UUID.
const UUID_BYTES: usize = 16;

/// An id as it stands in a record.
#[derive(Clone, Copy)]
pub(in crate::store) enum Id<'a> {
    Text(&'a str),
    Packed(&'a [u8]),
}

/// The text of an id.
pub(in crate::store) enum IdText<'a> {
    Kept(&'a str),
    Unpacked(ArrayString<UUID_CHARS>),
}

impl<'a> Id<'a> {
    /// The id that was packed as `bytes`, if these are what packing makes.
    pub(super) fn packed(bytes: &'a [u8]) -> Option<Self> {
        // One way to write each number.
        let is_number = matches!(bytes.len(), 1..=8) && (bytes[0] > 0 || bytes.len() == 1);
        (is_number || bytes.len() == UUID_BYTES).then_some(Self::Packed(bytes))
    }

    /// The id as it was given.
    pub(in crate::store) fn text(&self) -> IdText<'a> {
        let bytes = match self {
            Self::Text(text) => return IdText::Kept(text),
            Self::Packed(bytes) => *bytes,
        };
        let (mut digits, mut hyphenated) = (itoa::Buffer::new(), [0; UUID_CHARS]);
        let text = match Uuid::from_slice(bytes) {
            Ok(uuid) => uuid.hyphenated().encode_lower(&mut hyphenated),
            Err(_) => digits.format(bytes.iter().fold(0u64, |n, byte| n << 8 | u64::from(*byte))),
        };
        IdText::Unpacked(ArrayString::from(text).unwrap_or_default())
    }
}

impl fmt::Debug for Id<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.text(), f)
    }
}

impl Deref for IdText<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Kept(text) => text,
            Self::Unpacked(text) => text,
        }
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
    (*Id::Packed(&packed).text() == *id).then_some(packed)
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
                let read = Id::packed(&packed).ok_or(TestCaseError::fail("lost"))?;
                prop_assert_eq!(&*read.text(), id);
            }
        }

        #[test]
        fn an_id_packs_in_one_way(bytes in prop::collection::vec(prop_oneof![Just(0), any::<u8>()], 0..20)) {
            if let Some(id) = Id::packed(&bytes) {
                prop_assert_eq!(pack(&id.text()).map(|packed| packed.to_vec()), Some(bytes.clone()));
            }
        }
    }
}
