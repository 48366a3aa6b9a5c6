//! The names that a checkpoint's pickle may have Python import. Nothing is ever done with most of them; that all others are
//! refused tells the user that a file is more than a checkpoint.

/// Whether a name, `module.name`, is one of them.
pub fn is_known(name: &str) -> bool {
    const MODULES: [&str; 13] = [
        "__main__",
        "__torch__",
        "argparse",
        "clip",
        "collections",
        "lightning",
        "lightning_fabric",
        "numpy",
        "omegaconf",
        "open_clip",
        "pathlib",
        "pytorch_lightning",
        "transformers",
    ];
    // Of Python's own and of PyTorch only what describes values: `builtins.eval`, say, is not among them.
    const NAMES: [&str; 37] = [
        "_codecs.encode",
        "builtins.bool",
        "builtins.bytearray",
        "builtins.complex",
        "builtins.dict",
        "builtins.float",
        "builtins.frozenset",
        "builtins.int",
        "builtins.list",
        "builtins.object",
        "builtins.set",
        "builtins.slice",
        "builtins.str",
        "builtins.tuple",
        "__builtin__.object",
        "__builtin__.set",
        "copy_reg._reconstructor",
        "copyreg._reconstructor",
        "datetime.datetime",
        "torch.Size",
        "torch.Tensor",
        "torch.device",
        "torch.dtype",
        "torch.FloatTensor",
        "torch._tensor._rebuild_from_type_v2",
        "torch._utils._rebuild_parameter",
        "torch._utils._rebuild_parameter_with_state",
        "torch._utils._rebuild_tensor",
        "torch._utils._rebuild_tensor_v2",
        "torch.jit._pickle.build_boollist",
        "torch.jit._pickle.build_doublelist",
        "torch.jit._pickle.build_intlist",
        "torch.jit._pickle.build_tensorlist",
        "torch.jit._pickle.restore_type_tag",
        "torch.nn.parameter.Parameter",
        "torch.serialization._get_layout",
        "torch.storage._load_from_bytes",
    ];
    let (module, last) = name.rsplit_once('.').unwrap_or(("", name));
    let first = name.split('.').next().unwrap_or_default();
    let is_storage = ["torch", "torch.cuda", "torch.storage"].contains(&module)
        && last.ends_with("Storage")
        || module == "torch.storage" && last == "UntypedStorage";
    let is_dtype = module == "torch" && is_lower_word(last);
    let is_network = name.starts_with("torch.nn.modules.") || name.starts_with("torch.optim.");
    MODULES.contains(&first) || NAMES.contains(&name) || is_storage || is_dtype || is_network
}

/// `float16`, `int64`, `bool`: what PyTorch's element types are called.
fn is_lower_word(name: &str) -> bool {
    ["float", "bfloat", "int", "uint", "bool"]
        .iter()
        .any(|kind| {
            name.strip_prefix(kind)
                .is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
        })
}
