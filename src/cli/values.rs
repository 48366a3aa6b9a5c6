//! Enums of the library as values of flags.

/// An enum of a flag's values, one for each variant of an enum of the library, with their help. It does not compile when
/// one of them is left out.
macro_rules! values {
    ($(#[$about:meta])* $visibility:vis $flag:ident for $library:path { $($(#[$help:meta])* $value:ident,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, clap::ValueEnum)]
        $visibility enum $flag {
            $($(#[$help])* $value,)+
        }

        impl From<$flag> for $library {
            fn from(flag: $flag) -> Self {
                use $library as Library;
                let library = match flag {
                    $($flag::$value => Library::$value,)+
                };
                match library {
                    $(Library::$value => library,)+
                }
            }
        }
    };
}

pub(super) use values;
