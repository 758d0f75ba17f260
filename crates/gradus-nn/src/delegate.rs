//! `Module` for enums whose variants each hold one module, without a level of naming of their own.
//!
//! `#[derive(Module)]` would put the variant's name into every parameter's path
//! (`Cnn.head.weight`). Checkpoints should hold `head.weight`, whether a model was built through the
//! zoo or by itself.

macro_rules! delegate_module {
    ($name:ident { $($variant:ident),+ $(,)? }) => {
        impl burn::module::Module for $name {
            fn collect_devices(&self, devices: burn::module::Devices) -> burn::module::Devices {
                match self { $(Self::$variant(module) => module.collect_devices(devices),)+ }
            }

            fn fork(self, device: &burn::tensor::Device) -> Self {
                match self { $(Self::$variant(module) => Self::$variant(module.fork(device)),)+ }
            }

            fn to_device(self, device: &burn::tensor::Device) -> Self {
                match self { $(Self::$variant(module) => Self::$variant(module.to_device(device)),)+ }
            }

            fn train(self) -> Self {
                match self {
                    $(Self::$variant(module) => {
                        Self::$variant(burn::module::Module::train(module))
                    })+
                }
            }

            fn valid(&self) -> Self {
                match self { $(Self::$variant(module) => Self::$variant(module.valid()),)+ }
            }

            fn materialize(self) -> Self {
                match self { $(Self::$variant(module) => Self::$variant(module.materialize()),)+ }
            }

            fn visit<V: burn::module::ModuleVisitor>(&self, visitor: &mut V) {
                match self { $(Self::$variant(module) => module.visit(visitor),)+ }
            }

            fn map<M: burn::module::ModuleMapper>(self, mapper: &mut M) -> Self {
                match self { $(Self::$variant(module) => Self::$variant(module.map(mapper)),)+ }
            }
        }

        impl burn::module::ModuleDisplayDefault for $name {
            fn content(&self, content: burn::module::Content) -> Option<burn::module::Content> {
                match self {
                    $(Self::$variant(module) => {
                        burn::module::ModuleDisplayDefault::content(module, content)
                    })+
                }
            }
        }

        impl burn::module::ModuleDisplay for $name {}

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self { $(Self::$variant(module) => std::fmt::Display::fmt(module, f),)+ }
            }
        }
    };
}
pub(crate) use delegate_module;
