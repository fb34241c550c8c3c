//! Schemas of configurations.

use crate::hclspec::{Attr, Block, BlockAttrs, Object, Spec, spec};

impl Spec {
    /// The body of a block, by the names of its parts. It is the root of every schema.
    pub fn object(parts: impl IntoIterator<Item = (String, Self)>) -> Self {
        Self::of(spec::Block::Object(Object { attributes: parts.into_iter().collect() }))
    }

    /// An optional attribute. `hcl_type` is an HCL type expression such as `list(string)`.
    pub fn attr(name: &str, hcl_type: &str) -> Self {
        Self::of(spec::Block::Attr(Attr {
            name: name.to_owned(),
            r#type: hcl_type.to_owned(),
            required: false,
        }))
    }

    /// An optional block.
    pub fn block(name: &str, body: Self) -> Self {
        Self::of(spec::Block::BlockValue(Box::new(Block {
            name: name.to_owned(),
            required: false,
            nested: Some(Box::new(body)),
        })))
    }

    /// A block of arbitrary keys whose values have one type. It accepts `name { k = v }` and `name = { k = v }`.
    pub fn block_attrs(name: &str, hcl_type: &str) -> Self {
        Self::of(spec::Block::BlockAttrs(BlockAttrs {
            name: name.to_owned(),
            r#type: hcl_type.to_owned(),
            required: false,
        }))
    }

    const fn of(block: spec::Block) -> Self {
        Self { block: Some(block) }
    }
}
