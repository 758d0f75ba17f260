//! Walks through the float tensors of a module that know their names: the path in the module, joined by dots,
//! as in `stages.0.1.conv.weight`.
//!
//! Burn's [`ModuleVisitor`] and [`ModuleMapper`] are told the names one level at a time; here they are put together.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::Tensor;

/// What is done at each float tensor of a module: parameters, frozen ones and buffers.
pub trait NamedVisitor {
    /// Looks at `param`, which has this name.
    fn visit<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>);
}

/// What becomes of each float tensor of a module.
pub trait NamedMapper {
    /// What stands in place of `param`, which has this name.
    fn map<const D: usize>(&mut self, name: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>>;
}

/// Shows `visitor` every float tensor of `module`, in the order of its fields.
pub fn visit<M: Module>(module: &M, visitor: &mut impl NamedVisitor) {
    let path = Vec::new();
    module.visit(&mut Walk {
        path,
        each: visitor,
    });
}

/// `module` with every float tensor replaced as `mapper` says.
pub fn map<M: Module>(module: M, mapper: &mut impl NamedMapper) -> M {
    let path = Vec::new();
    module.map(&mut Walk { path, each: mapper })
}

struct Walk<'a, T> {
    path: Vec<String>,
    each: &'a mut T,
}

impl<T: NamedVisitor> ModuleVisitor for Walk<'_, T> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.each.visit(&self.path.join("."), param);
    }
}

impl<T: NamedMapper> ModuleMapper for Walk<'_, T> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        self.each.map(&self.path.join("."), param)
    }
}
