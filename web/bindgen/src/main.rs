//! `pollux-web-bindgen MODULE.wasm FOLDER`: writes the module without what only the compiler needs, its JavaScript side, and its types.

use std::error::Error;

use wasm_bindgen_cli_support::Bindgen;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(module), Some(folder)) = (arguments.next(), arguments.next()) else {
        return Err("usage: pollux-web-bindgen MODULE.wasm FOLDER".into());
    };
    let mut bindgen = Bindgen::new();
    bindgen.input_path(module).out_name("emulator").web(true)?.typescript(true);
    bindgen.generate(folder)?;
    Ok(())
}
