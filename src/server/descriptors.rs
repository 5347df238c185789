//! The services as `proto/nearbit/v1` describes them: for reflection, and for whoever treats methods
//! by what they are.

use prost::Message as _;
use prost_types::{FileDescriptorSet, MethodDescriptorProto};

/// The description, encoded.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/nearbit.v1.bin"));

/// The description, read. It comes from our own build, so what cannot be read is empty.
pub fn descriptors() -> FileDescriptorSet {
    FileDescriptorSet::decode(DESCRIPTORS).unwrap_or_default()
}

/// All methods, each with the full name of its service.
pub fn methods(
    descriptors: &FileDescriptorSet,
) -> impl Iterator<Item = (String, &MethodDescriptorProto)> {
    let services = descriptors.file.iter().flat_map(|file| {
        file.service
            .iter()
            .map(|service| (format!("{}.{}", file.package(), service.name()), service))
    });
    services
        .flat_map(|(name, service)| service.method.iter().map(move |method| (name.clone(), method)))
}

/// The path of the calls of a method.
pub fn path(service: &str, method: &MethodDescriptorProto) -> String {
    format!("/{service}/{}", method.name())
}
