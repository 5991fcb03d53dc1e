//! Writes `src/generated` from the `.proto` files. Run by `make generate`; the result is committed, so that a
//! build needs neither protoc nor this program. A package of its own: it must build while the library does not.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Of this run, which cargo says: clones may share a target folder, and with it a program that another one has built.
    let root = Path::new(&std::env::var("CARGO_MANIFEST_DIR")?).join("..");
    let includes = root.join("proto");
    let services = ["ledger", "admin"].map(|name| includes.join(format!("tollgate/ledger/v1/{name}.proto")));
    let files = protox::compile(services, [&includes])?;
    tonic_prost_build::configure()
        .out_dir(root.join("src/generated"))
        .client_mod_attribute(".", "#[cfg(feature = \"grpc\")]")
        .server_mod_attribute(".", "#[cfg(feature = \"grpc\")]")
        .compile_fds(files)?;
    Ok(())
}
