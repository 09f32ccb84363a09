//! NumPy's file format for one array, versions 1 to 3.
//! <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>

use bytes::Bytes;
use ingle_types::{DType, Shape, Tensor, TensorError};

const MAGIC: &[u8] = b"\x93NUMPY";

/// A longer header describes no array that a model takes.
const MAX_HEADER: usize = 64 * 1024;

/// How a file can fail to be an array that a model takes.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(super) enum NpyError {
    #[error("it is not an .npy file")]
    Magic,
    #[error("version {0} of the format is not known; np.save writes version 1")]
    Version(u8),
    #[error("its header is damaged: {0}")]
    Header(&'static str),
    #[error("elements of NumPy type {0:?} are not supported; convert them with .astype(...)")]
    Descr(String),
    #[error("its axes are in Fortran's order; save np.ascontiguousarray(array)")]
    Fortran,
    #[error(transparent)]
    Tensor(#[from] TensorError),
    #[error("a string is not valid text")]
    Text,
    #[error("its strings would take more than {limit} bytes")]
    TooLarge { limit: usize },
}

/// NumPy's name of each type of numbers that it has.
const DESCRS: &[(&str, DType)] = &[
    ("|b1", DType::Bool),
    ("|u1", DType::U8),
    ("<u2", DType::U16),
    ("<u4", DType::U32),
    ("<u8", DType::U64),
    ("|i1", DType::I8),
    ("<i2", DType::I16),
    ("<i4", DType::I32),
    ("<i8", DType::I64),
    ("<f2", DType::F16),
    ("<f4", DType::F32),
    ("<f8", DType::F64),
];

pub(super) fn read(file: &Bytes) -> Result<Tensor, NpyError> {
    let (header, data) = split(file)?;
    let header = Header::parse(header)?;
    let shape = Shape::new(header.shape)?;
    if let Some((_, dtype)) = DESCRS.iter().find(|(descr, _)| *descr == header.descr) {
        return Ok(Tensor::dense(*dtype, shape, data)?);
    }
    let unknown = || NpyError::Descr(header.descr.to_owned());
    let (kind, length) = header.descr.split_at_checked(2).ok_or_else(unknown)?;
    let length: usize = length.parse().map_err(|_| unknown())?;
    let (size, text): (usize, Decode) = match kind {
        "<U" => (4, utf32),
        "|S" => (1, |bytes| Some(Bytes::copy_from_slice(without_padding(bytes)))),
        _ => return Err(unknown()),
    };
    let size = length.checked_mul(size).filter(|&size| size > 0).ok_or_else(unknown)?;
    if data.len() % size != 0 || data.len() / size != shape.elements() {
        return Err(NpyError::Header("its strings do not fill its shape"));
    }
    let strings = data.chunks(size).map(|chunk| text(chunk).ok_or(NpyError::Text));
    Ok(Tensor::blobs(shape, strings.collect::<Result<_, _>>()?)?)
}

type Decode = fn(&[u8]) -> Option<Bytes>;

fn without_padding(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    bytes.get(..end).unwrap_or_default()
}

fn utf32(bytes: &[u8]) -> Option<Bytes> {
    let units = bytes.chunks_exact(4).map(|unit| {
        let unit: [u8; 4] = unit.try_into().ok()?;
        char::from_u32(u32::from_le_bytes(unit))
    });
    let text: String = units.collect::<Option<_>>()?;
    Some(text.trim_end_matches('\0').to_owned().into())
}

/// The header's text, and what comes behind it.
fn split(file: &Bytes) -> Result<(&str, Bytes), NpyError> {
    let rest = file.strip_prefix(MAGIC).ok_or(NpyError::Magic)?;
    let short = || NpyError::Header("the file ends in it");
    let major = *rest.first().ok_or_else(short)?;
    let (length, start) = match major {
        1 => {
            let bytes = rest.get(2..4).and_then(|b| b.try_into().ok()).ok_or_else(short)?;
            (u16::from_le_bytes(bytes).into(), MAGIC.len() + 4)
        }
        2 | 3 => {
            let bytes = rest.get(2..6).and_then(|b| b.try_into().ok()).ok_or_else(short)?;
            (u32::from_le_bytes(bytes) as usize, MAGIC.len() + 6)
        }
        _ => return Err(NpyError::Version(major)),
    };
    if length > MAX_HEADER {
        return Err(NpyError::Header("it is too long"));
    }
    let header = file.get(start..start + length).ok_or_else(short)?;
    let header = std::str::from_utf8(header).map_err(|_| NpyError::Header("it is no text"))?;
    Ok((header, file.slice(start + length..)))
}

/// `{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3), }`
struct Header<'a> {
    descr: &'a str,
    shape: Vec<usize>,
}

impl<'a> Header<'a> {
    fn parse(text: &'a str) -> Result<Self, NpyError> {
        let bad = NpyError::Header;
        let after = |key: &str| {
            let (_, rest) = text.split_once(key)?;
            rest.trim_start().strip_prefix(':').map(str::trim_start)
        };
        let descr = after("'descr'").ok_or(bad("it has no descr"))?;
        let Some(descr) = descr.strip_prefix('\'') else {
            return Err(NpyError::Descr("a record".into()));
        };
        let (descr, _) = descr.split_once('\'').ok_or(bad("its descr does not end"))?;
        let fortran = after("'fortran_order'").ok_or(bad("it has no fortran_order"))?;
        let shape = after("'shape'").and_then(|rest| rest.strip_prefix('('));
        let (shape, _) = shape.and_then(|s| s.split_once(')')).ok_or(bad("it has no shape"))?;
        let sizes = shape.split(',').map(str::trim).filter(|size| !size.is_empty());
        let shape: Vec<usize> = sizes
            .map(|size| size.parse().map_err(|_| bad("its shape is not of sizes")))
            .collect::<Result<_, _>>()?;
        // An array of one axis is in both orders at once.
        if fortran.starts_with("True") && shape.len() > 1 {
            return Err(NpyError::Fortran);
        }
        Ok(Self { descr, shape })
    }
}

/// Writes version 1. NumPy has no bfloat16, so that becomes float32, which holds it.
pub(super) fn write(tensor: &Tensor, limit: usize) -> Result<Vec<u8>, NpyError> {
    if let Some(strings) = tensor.strings() {
        return write_strings(tensor, strings, limit);
    }
    if tensor.dtype() == DType::BF16 {
        let wide: Vec<f32> =
            tensor.as_slice::<half::bf16>()?.iter().map(|value| value.to_f32()).collect();
        return write(&Tensor::from_slice(tensor.dims(), &wide)?, limit);
    }
    let dtype = tensor.dtype();
    let unknown = || NpyError::Descr(dtype.to_string());
    let (descr, _) = DESCRS.iter().find(|(_, known)| *known == dtype).ok_or_else(unknown)?;
    let data = tensor.bytes().ok_or_else(unknown)?;
    let mut file = header(descr, tensor.dims())?;
    file.extend_from_slice(data);
    Ok(file)
}

/// Text as text; strings that are no text as bytes. All are as long as the longest.
fn write_strings(tensor: &Tensor, strings: &[Bytes], limit: usize) -> Result<Vec<u8>, NpyError> {
    let texts: Option<Vec<&str>> = strings.iter().map(|s| std::str::from_utf8(s).ok()).collect();
    let (kind, size, longest) = match &texts {
        Some(texts) => ("<U", 4, texts.iter().map(|text| text.chars().count()).max()),
        None => ("|S", 1, strings.iter().map(Bytes::len).max()),
    };
    let longest = longest.unwrap_or(0).max(1);
    let each = longest.saturating_mul(size);
    if each.saturating_mul(strings.len()) > limit {
        return Err(NpyError::TooLarge { limit });
    }
    let mut file = header(&format!("{kind}{longest}"), tensor.dims())?;
    for (index, bytes) in strings.iter().enumerate() {
        let end = file.len() + each;
        match texts.as_ref().and_then(|texts| texts.get(index)) {
            Some(text) => file.extend(text.chars().flat_map(|c| u32::from(c).to_le_bytes())),
            None => file.extend_from_slice(bytes),
        }
        file.resize(end, 0);
    }
    Ok(file)
}

fn header(descr: &str, dims: &[usize]) -> Result<Vec<u8>, NpyError> {
    let sizes: String = dims.iter().map(|size| format!("{size}, ")).collect();
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({sizes}), }}");
    // The data starts at a multiple of 64.
    let bare = MAGIC.len() + 4 + text.len() + 1;
    text.extend(std::iter::repeat_n(' ', bare.next_multiple_of(64) - bare));
    text.push('\n');
    let length = u16::try_from(text.len()).map_err(|_| NpyError::Header("it is too long"))?;
    let mut file = [MAGIC, &[1, 0], &length.to_le_bytes()].concat();
    file.extend_from_slice(text.as_bytes());
    Ok(file)
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;

    const LIMIT: usize = 1000;

    fn file(header: &str, data: &[u8]) -> Bytes {
        let length = (header.len() as u16).to_le_bytes();
        [MAGIC, &[1, 0], &length, header.as_bytes(), data].concat().into()
    }

    fn array(descr: &str, shape: &str, data: &[u8]) -> Result<Tensor, NpyError> {
        let header = format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n");
        read(&file(&header, data))
    }

    #[test]
    fn what_is_written_is_read_again() {
        let numbers = [
            Tensor::from_slice(&[2, 3], &[1f32, 2., 3., 4., 5., 6.]).unwrap(),
            Tensor::from_slice(&[], &[-1i64]).unwrap(),
            Tensor::from_slice::<u8>(&[0, 7], &[]).unwrap(),
            Tensor::dense(DType::Bool, Shape::new([2]).unwrap(), vec![0, 1]).unwrap(),
        ];
        let strings = |texts: &[&'static [u8]]| {
            let blobs = texts.iter().map(|&text| Bytes::from_static(text)).collect();
            Tensor::blobs(Shape::new([texts.len()]).unwrap(), blobs).unwrap()
        };
        let strings = [strings(&["grüß".as_bytes(), b"", b"ab"]), strings(&[b"\xff\xfe", b"a"])];
        for tensor in numbers.iter().chain(&strings) {
            let file = write(tensor, LIMIT).unwrap();
            assert_eq!(&read(&file.into()).unwrap(), tensor);
        }
    }

    #[test]
    fn data_starts_where_numpy_wants_it() {
        let file = write(&Tensor::from_slice(&[2], &[1f32, 2.]).unwrap(), LIMIT).unwrap();
        assert_eq!(file.len() % 64, 8);
        assert_eq!(file[file.len() - 9], b'\n');
        let text = String::from_utf8_lossy(&file[10..]);
        assert!(text.starts_with("{'descr': '<f4', 'fortran_order': False, 'shape': (2, ), }"));
    }

    #[test]
    fn bfloat16_becomes_float32() {
        let tensor = Tensor::from_slice(&[1], &[bf16::from_f32(1.5)]).unwrap();
        let read = read(&write(&tensor, LIMIT).unwrap().into()).unwrap();
        assert_eq!(read.as_slice::<f32>().unwrap().as_ref(), [1.5]);
    }

    #[test]
    fn the_second_version_has_a_longer_length() {
        let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (1,)}";
        let length = (header.len() as u32).to_le_bytes();
        let file = [MAGIC, &[2, 0], &length, header.as_bytes(), &[7]].concat();
        assert_eq!(read(&file.into()).unwrap().bytes().unwrap().as_ref(), [7]);
    }

    #[test]
    fn headers_that_lie_are_refused() {
        assert_eq!(read(&Bytes::from_static(b"PK\x03\x04")), Err(NpyError::Magic));
        assert_eq!(read(&[MAGIC, &[9, 0]].concat().into()), Err(NpyError::Version(9)));
        assert!(matches!(read(&[MAGIC, &[1, 0, 255]].concat().into()), Err(NpyError::Header(_))));
        let huge = [MAGIC, &[2, 0], &u32::MAX.to_le_bytes()].concat();
        assert!(matches!(read(&huge.into()), Err(NpyError::Header("it is too long"))));
        assert!(matches!(array("'<f4'", "(2,)", &[0; 4]), Err(NpyError::Tensor(_))));
        for shape in ["(-1,)", "(1.5,)", "(x,)", "2", "(", "(99999999999999999999,)"] {
            assert!(matches!(array("'<f4'", shape, &[]), Err(NpyError::Header(_))), "{shape}");
        }
        let large = "(4611686018427387904, 16)";
        assert!(matches!(array("'<f4'", large, &[]), Err(NpyError::Tensor(_))));
        assert!(matches!(array("'|b1'", "(1,)", &[2]), Err(NpyError::Tensor(_))));
        assert!(matches!(array("'<U1'", "(1,)", &[0, 0, 0, 255]), Err(NpyError::Text)));
        assert!(matches!(array("'<U2'", "(1,)", &[0; 4]), Err(NpyError::Header(_))));
    }

    #[test]
    fn arrays_of_other_kinds_say_what_to_do() {
        for descr in ["'>f4'", "'<c8'", "'|O'", "'<U0'", "'<Ux'", "[('a', '<f4')]", "'|é'"] {
            assert!(matches!(array(descr, "(1,)", &[0; 8]), Err(NpyError::Descr(_))), "{descr}");
        }
        let fortran = "{'descr': '<f4', 'fortran_order': True, 'shape': (1, 2), }";
        assert_eq!(read(&file(fortran, &[0; 8])), Err(NpyError::Fortran));
    }

    #[test]
    fn strings_that_would_swell_are_not_written() {
        let mut blobs = vec![Bytes::new(); 100];
        blobs.push(Bytes::from(vec![b'a'; 100]));
        let tensor = Tensor::blobs(Shape::new([101]).unwrap(), blobs).unwrap();
        assert_eq!(write(&tensor, LIMIT), Err(NpyError::TooLarge { limit: LIMIT }));
    }
}
