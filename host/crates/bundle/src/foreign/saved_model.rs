//! Which graphs a SavedModel's protobuf holds, by their tags and signatures. All else is
//! stepped over, so that reading costs one pass and no more memory than these names.

/// Graphs, tags of one and signatures of one that are kept; more are left out.
const MAX_KEPT: usize = 64;

/// Longer names are left out, in bytes.
const MAX_NAME: usize = 128;

/// A MetaGraphDef.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Graph {
    pub(super) tags: Vec<String>,
    pub(super) signatures: Vec<String>,
}

/// The graphs of a `SavedModel`; `None` where the bytes are none.
pub(super) fn read(saved_model: &[u8]) -> Option<Vec<Graph>> {
    let mut graphs = Vec::new();
    each_field(saved_model, |number, content| {
        if number == 2 && graphs.len() < MAX_KEPT {
            graphs.push(graph(content)?);
        }
        Some(())
    })?;
    Some(graphs)
}

fn graph(meta_graph: &[u8]) -> Option<Graph> {
    let mut graph = Graph::default();
    each_field(meta_graph, |number, content| match number {
        // meta_info_def, whose field 4 are the tags
        1 => each_field(content, |number, tag| {
            keep(&mut graph.tags, (number == 4).then_some(tag));
            Some(())
        }),
        // signature_def, a map whose entries have their key in field 1
        5 => each_field(content, |number, name| {
            keep(&mut graph.signatures, (number == 1).then_some(name));
            Some(())
        }),
        _ => Some(()),
    })?;
    Some(graph)
}

fn keep(names: &mut Vec<String>, name: Option<&[u8]>) {
    let name = name.filter(|name| name.len() <= MAX_NAME && names.len() < MAX_KEPT);
    if let Some(Ok(name)) = name.map(std::str::from_utf8) {
        names.push(name.to_owned());
    }
}

/// Shows every length-delimited field of a message to `visit`, with its number; `None`
/// where the message is malformed or `visit` says so.
fn each_field<'a>(
    mut bytes: &'a [u8],
    mut visit: impl FnMut(u64, &'a [u8]) -> Option<()>,
) -> Option<()> {
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        match key & 7 {
            0 => {
                varint(&mut bytes)?;
            }
            1 => bytes = bytes.get(8..)?,
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                let (content, rest) = bytes.split_at_checked(length)?;
                bytes = rest;
                visit(key >> 3, content)?;
            }
            5 => bytes = bytes.get(4..)?,
            _ => return None,
        }
    }
    Some(())
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        [&[(number << 3) | 2, u8::try_from(content.len()).unwrap()], content].concat()
    }

    #[test]
    fn tags_and_signatures_are_found_between_all_else() {
        let info = [field(5, b"2.21"), field(4, b"serve"), field(4, b"gpu")].concat();
        let entry = |name: &[u8]| field(5, &[field(1, name), field(2, b"ignored")].concat());
        let graph = [field(1, &info), field(2, &[7; 90]), entry(b"a"), entry(b"b")].concat();
        // The schema version, and each other kind of field.
        let start = [&[0x08, 1][..], &[0x19], &[0; 8], &[0x1d], &[0; 4]].concat();
        // Lengths of this test are bytes below 128, so the graph's is written here.
        let length = [((graph.len() & 0x7f) | 0x80) as u8, (graph.len() >> 7) as u8];
        let whole = [&start[..], &[0x12], &length, &graph].concat();
        let found = read(&whole).unwrap();
        let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        assert_eq!(
            found,
            [Graph { tags: texts(&["serve", "gpu"]), signatures: texts(&["a", "b"]) }]
        );
        for end in 1..whole.len() {
            // Cut anywhere, it is refused or has less; it never panics.
            let _ = read(&whole[..end]);
        }
        assert!(read(&whole[..whole.len() - 1]).is_none());
    }

    #[test]
    fn what_is_no_message_is_none() {
        for bytes in [&b"\x12\xff"[..], b"\x12\x05ab", b"\x0b", &[0xff; 12], b"\x19\0", b"\x1d\0"] {
            assert!(read(bytes).is_none(), "{bytes:?}");
        }
        assert_eq!(read(b""), Some(vec![]));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let names = field(4, b"t").repeat(MAX_KEPT + 9);
        let mut info = vec![0x0a];
        info.extend([((names.len() & 0x7f) | 0x80) as u8, (names.len() >> 7) as u8]);
        info.extend(&names);
        assert_eq!(graph(&info).unwrap().tags.len(), MAX_KEPT);
        let long = [&[0x22, 0x81, 0x01][..], &[b'x'; MAX_NAME + 1]].concat();
        let info = [&[0x0a, 0x84, 0x01][..], &long].concat();
        assert_eq!(graph(&info).unwrap().tags, [""; 0]);
        assert_eq!(read(&[0x12, 0].repeat(1 << 16)).unwrap().len(), MAX_KEPT);
    }
}
