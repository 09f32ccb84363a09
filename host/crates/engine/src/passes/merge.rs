//! Removes nodes that pass their operand on, and nodes that compute what another
//! node has computed.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use ingle_types::Tensor;

use super::rewriter::Rewriter;
use crate::graph::{Attribute, Node, ValueId};
use crate::value::Host;

/// Bytes up to which constants are compared.
const SMALL: usize = 512;

/// Operators whose answers differ from run to run.
const RANDOM: [&str; 6] = [
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Multinomial",
    "Bernoulli",
];

pub(super) fn run(graph: &mut Rewriter) {
    let mut alias: Vec<ValueId> = (0..graph.values()).collect();
    let constants = same_constants(graph);
    for (from, to) in constants {
        set(&mut alias, from, to);
    }
    let mut seen: HashMap<u64, Vec<usize>> = HashMap::new();
    for at in graph.places() {
        graph.redirect(at, |id| resolve(&alias, id));
        let Some(node) = graph.node(at) else { continue };
        if node.outputs.iter().flatten().any(|&id| graph.is_captured(id)) {
            continue;
        }
        if let Some((from, to)) = passes_on(graph, node) {
            set(&mut alias, from, to);
            continue;
        }
        let Some(key) = key_of(node) else { continue };
        let others = seen.entry(key).or_default();
        let same = others.iter().filter_map(|&other| graph.node(other));
        match same.into_iter().find(|other| is_same(other, node)) {
            Some(other) => {
                for (from, to) in node.outputs.iter().zip(&other.outputs) {
                    if let (Some(from), Some(to)) = (*from, *to) {
                        set(&mut alias, from, to);
                    }
                }
            }
            None => others.push(at),
        }
    }
    graph.redirect_outputs(|id| resolve(&alias, id));
    for at in graph.places().rev() {
        let Some(node) = graph.node(at) else { continue };
        let moved = |id: &ValueId| resolve(&alias, *id) != *id;
        if node.outputs.iter().flatten().any(moved) {
            graph.remove(at);
        }
    }
}

fn resolve(alias: &[ValueId], id: ValueId) -> ValueId {
    alias.get(id).copied().unwrap_or(id)
}

fn set(alias: &mut [ValueId], from: ValueId, to: ValueId) {
    if let Some(slot) = alias.get_mut(from) {
        *slot = to;
    }
}

/// Small constants that are equal to another, and that other.
fn same_constants(graph: &Rewriter) -> Vec<(ValueId, ValueId)> {
    let mut seen: HashMap<(ingle_types::DType, &[usize], &[u8]), ValueId> = HashMap::new();
    let mut same = Vec::new();
    for id in 0..graph.values() {
        let small = |tensor: &&Tensor| tensor.size_bytes() <= SMALL;
        let Some(tensor) = graph.constant(id).filter(small) else { continue };
        let Some(bytes) = tensor.bytes() else { continue };
        if graph.is_captured(id) {
            continue;
        }
        let key = (tensor.dtype(), tensor.dims(), bytes.as_ref());
        match seen.get(&key) {
            Some(&other) => same.push((id, other)),
            None => drop(seen.insert(key, id)),
        }
    }
    same
}

/// The output that is an input, and that input.
fn passes_on(graph: &Rewriter, node: &Node) -> Option<(ValueId, ValueId)> {
    let (from, to) = (node.output()?, node.input(0)?);
    let passes = if node.is("Identity") {
        node.attributes.is_empty() && node.inputs.len() == 1
    } else if node.is("Dropout") {
        let known = |name: &String| ["ratio", "seed", "is_test"].contains(&name.as_str());
        let training = node.input(2).map(|id| graph.constant(id).and_then(Host::from_tensor));
        node.attributes.iter().all(|(name, _)| known(name))
            && node.inputs.len() <= 3
            && training.is_none_or(|mode| mode.is_some_and(|mode| mode.to_f64() == [0.0]))
            && graph.makes_only(node, from)
    } else {
        false
    };
    passes.then_some((from, to))
}

/// `None` for nodes that must not be merged.
fn key_of(node: &Node) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    let label = &node.label;
    if RANDOM.contains(&label.operator.as_str()) {
        return None;
    }
    (&label.domain, &label.operator, label.opset, &node.inputs).hash(&mut hasher);
    for (name, attribute) in &node.attributes {
        name.hash(&mut hasher);
        match attribute {
            Attribute::Float(value) => value.to_bits().hash(&mut hasher),
            Attribute::Int(value) => value.hash(&mut hasher),
            Attribute::String(value) => value.hash(&mut hasher),
            Attribute::Ints(values) => values.hash(&mut hasher),
            Attribute::Strings(values) => values.hash(&mut hasher),
            Attribute::Floats(values) => values.iter().for_each(|v| v.to_bits().hash(&mut hasher)),
            Attribute::Tensor(tensor) => tensor.dims().hash(&mut hasher),
            Attribute::Graph(_) | Attribute::Type => return None,
        }
    }
    Some(hasher.finish())
}

fn is_same(left: &Node, right: &Node) -> bool {
    let (l, r) = (&left.label, &right.label);
    let present = |node: &Node| node.outputs.iter().map(Option::is_some).collect::<Vec<_>>();
    (&l.domain, &l.operator, l.opset) == (&r.domain, &r.operator, r.opset)
        && left.inputs == right.inputs
        && present(left) == present(right)
        && left.attributes.len() == right.attributes.len()
        && left
            .attributes
            .iter()
            .zip(&right.attributes)
            .all(|((l, left), (r, right))| l == r && left.is_same(right))
}

impl Attribute {
    /// Whether both are the same bits; never for graphs.
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Float(l), Self::Float(r)) => l.to_bits() == r.to_bits(),
            (Self::Int(l), Self::Int(r)) => l == r,
            (Self::String(l), Self::String(r)) => l == r,
            (Self::Ints(l), Self::Ints(r)) => l == r,
            (Self::Strings(l), Self::Strings(r)) => l == r,
            (Self::Floats(l), Self::Floats(r)) => {
                l.iter().map(|v| v.to_bits()).eq(r.iter().map(|v| v.to_bits()))
            }
            (Self::Tensor(l), Self::Tensor(r)) => l == r,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use ingle_types::DType;

    use crate::passes::testing::{Sketch, operators_of, optimized};
    use crate::testing::{bools, counting, f32s, i64s, info, node};

    fn sketch() -> Sketch {
        Sketch::new(17).input("x", &[2, 2], counting(&[2, 2]))
    }

    #[test]
    fn what_passes_its_operand_on_is_removed() {
        let chain = sketch().node("Identity", &["x"], "a").node("Dropout", &["a"], "b");
        chain.clone().node("Exp", &["b"], "y").output("y").becomes(&["Exp"]);
        chain.output("b").output("x").becomes(&[]);
        let sketch = sketch().weight("r", f32s(&[], &[0.])).weight("yes", bools(&[], &[1]));
        sketch.node("Dropout", &["x", "r", "yes"], "y").output("y").becomes(&["Dropout"]);
    }

    #[test]
    fn what_was_computed_is_not_computed_again() {
        let twice = sketch().node("Exp", &["x"], "a").node("Exp", &["x"], "b");
        twice.clone().node("Add", &["a", "b"], "y").output("y").becomes(&["Exp", "Add"]);
        twice.output("a").output("b").becomes(&["Exp"]);
        let twice = sketch().weight("i", i64s(&[1], &[0])).weight("j", i64s(&[1], &[0]));
        let twice = twice.node("Unsqueeze", &["x", "i"], "a").node("Unsqueeze", &["x", "j"], "b");
        twice.node("Add", &["a", "b"], "y").output("y").becomes(&["Unsqueeze", "Add"]);
    }

    #[test]
    fn attributes_tell_nodes_apart() {
        let a = sketch().node("LeakyRelu", &["x"], "a").float("alpha", 0.5);
        let b = a.node("LeakyRelu", &["x"], "b").float("alpha", 0.25);
        b.node("Add", &["a", "b"], "y").output("y").becomes(&["LeakyRelu", "LeakyRelu", "Add"]);
    }

    #[test]
    fn random_numbers_are_drawn_for_each_node() {
        let one =
            sketch().node("RandomNormalLike", &["x"], "a").node("RandomNormalLike", &["x"], "b");
        let graph = optimized(&one.node("Sub", &["a", "b"], "y").output("y"));
        assert_eq!(operators_of(&graph), ["RandomNormalLike", "RandomNormalLike", "Sub"]);
    }

    #[test]
    fn what_a_subgraph_reads_keeps_its_name_and_the_subgraph_is_optimised_too() {
        let branch = |operator: &str| crate::proto::GraphProto {
            node: vec![
                node("Identity", &["same"], &["inner"]),
                node("Sigmoid", &["inner"], &["s"]),
                node("Mul", &["inner", "s"], &["swish"]),
                node(operator, &["swish"], &["out"]),
            ],
            output: vec![info("out", DType::F32, None)],
            ..Default::default()
        };
        let sketch = sketch().weight("yes", bools(&[], &[1])).node("Identity", &["x"], "same");
        let sketch = sketch.node("If", &["yes"], "y").subgraph("then_branch", branch("Exp"));
        let sketch = sketch.subgraph("else_branch", branch("Neg")).output("y");
        sketch.becomes(&["Identity", "If"]);
        let graph = optimized(&sketch);
        let (_, attribute) = &graph.nodes[1].attributes[0];
        let crate::graph::Attribute::Graph(then) = attribute else { panic!("{attribute:?}") };
        assert_eq!(operators_of(then), ["Swish", "Exp"]);
    }
}
