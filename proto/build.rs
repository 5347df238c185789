//! Compiles the .proto files with protox, so that building needs no `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    #[cfg(feature = "server")]
    server::generate()?;
    Ok(())
}

#[cfg(feature = "server")]
mod server {
    use prost::Message;

    /// Writes the client and server code, and the descriptors that reflection serves.
    pub fn generate() -> Result<(), Box<dyn std::error::Error>> {
        let descriptors = protox::compile(
            ["admin", "collection", "filter", "record", "search", "snapshot"]
                .map(|name| format!("nearbit/v1/{name}.proto")),
            ["proto"],
        )?;
        let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
        std::fs::write(out.join("nearbit.v1.bin"), descriptors.encode_to_vec())?;
        tonic_prost_build::configure().compile_fds(descriptors)?;
        Ok(())
    }
}
