//! The predict vectors of TensorFlow Serving's own tests, by number; 0 is ours.

use super::server::Server;

/// Bodies that are answered: the model, the body, and the answer.
const ACCEPTED: &[(u32, &str, &str, &str)] = &[
    (1, "int32", r#"{"instances":[[1,2],[3,4],[5,6]]}"#, "predictions: [[1, 2], [3, 4], [5, 6]]"),
    (2, "float", r#"{"instances":[1,2.0,3,0.007]}"#, "predictions: [1.0, 2.0, 3.0, 0.007]"),
    (3, "float", r#"{"instances":[1435774380]}"#, "predictions: [1.43577434e+09]"),
    (4, "float", r#"{"instances":[1.7976931348623157e308]}"#, "predictions: [Infinity]"),
    (
        5,
        "float",
        r#"{"instances":[2.2250738585072014e-308,-2.2250738585072014e-308]}"#,
        "predictions: [0.0, -0.0]",
    ),
    (6, "double", r#"{"instances":[1.0,2,NaN]}"#, "predictions: [1.0, 2.0, NaN]"),
    (
        7,
        "string",
        r#"{"instances":[{"b64":"aGVsbG8="},{"b64":"d29ybGQ="}]}"#,
        r#"predictions: ["hello", "world"]"#,
    ),
    (
        8,
        "string",
        r#"{"instances":[[{"b64":"aGVsbG8="}],[{"b64":"d29ybGQ="}]]}"#,
        r#"predictions: [["hello"], ["world"]]"#,
    ),
    (
        9,
        "string",
        r#"{"instances":[{"x":[[{"b64":"aGVsbG8="}],[{"b64":"d29ybGQ="}]]}]}"#,
        r#"predictions: [[["hello"], ["world"]]]"#,
    ),
    (
        10,
        "int32",
        r#"{"inputs":{"x":[[[1,2],[3,4],[5,6]]]}}"#,
        "outputs: [[[1, 2], [3, 4], [5, 6]]]",
    ),
    (11, "int32", r#"{"inputs":[[[1,2],[3,4],[5,6]]]}"#, "outputs: [[[1, 2], [3, 4], [5, 6]]]"),
    (12, "string", r#"{"inputs":{"x":{"b64":"aGVsbG8="}}}"#, r#"outputs: "hello""#),
    (13, "float", r#"{"inputs": 3}"#, "outputs: 3.0"),
    (14, "int32", r#"{"instances":[[1,2]]}XYZ"#, "predictions: [[1, 2]]"),
    (34, "int8", r#"{"instances":[300]}"#, "predictions: [44]"),
    (34, "uint8", r#"{"instances":[-1]}"#, "predictions: [255]"),
    (34, "int16", r#"{"instances":[70000]}"#, "predictions: [4464]"),
    // Beyond TensorFlow Serving, which answers 501.
    (
        39,
        "half",
        r#"{"instances":[0.5,65519,65520,1e-8,-0.0]}"#,
        "predictions: [0.5, 65504.0, Infinity, 0.0, -0.0]",
    ),
    (39, "bfloat16", r#"{"inputs":[0.1,NaN,-1e39]}"#, "outputs: [0.100097656, NaN, -Infinity]"),
    (39, "uint16", r#"{"inputs":[0,65535]}"#, "outputs: [0, 65535]"),
    (40, "float", r#"{"instances":[[]]}"#, "predictions: [[]]"),
    (
        41,
        "two",
        r#"{"instances":[{"a":NaN,"b":1},{"a":Infinity,"b":-2}]}"#,
        r#"predictions: [{"a": NaN, "b": 1}, {"a": Infinity, "b": -2}]"#,
    ),
    (49, "two", r#"{"inputs":{"a":1,"b":2,"c":3}}"#, r#"outputs: {"a": 1.0, "b": 2}"#),
    (
        0,
        "float",
        r#"{"instances":[-Inf,Inf,-Infinity,-0,-0.0]}"#,
        "predictions: [-Infinity, Infinity, -Infinity, 0.0, -0.0]",
    ),
    (
        0,
        "int64",
        r#"{"inputs":[9223372036854775807,-9223372036854775808]}"#,
        "outputs: [9223372036854775807, -9223372036854775808]",
    ),
    (0, "uint64", r#"{"inputs":18446744073709551615}"#, "outputs: 18446744073709551615"),
    (0, "uint32", r#"{"inputs":4294967295}"#, "outputs: 4294967295"),
    (0, "bool", r#"{"inputs":[true,false]}"#, "outputs: [true, false]"),
    (0, "string", r#"{"inputs":"caf\u00e9 \ud83d\ude00"}"#, "outputs: \"café 😀\""),
    (0, "string", r#"{"inputs":{"b64":"aGVsbG8"}}"#, r#"outputs: "hello""#),
    (0, "string", r#"{"inputs":{"\u0062\u00364":"aGVs\nbG8="}}"#, r#"outputs: "hello""#),
    (0, "string", r#"{"inputs":[]}"#, "outputs: []"),
    (0, "int32", r#"{"inputs":[1],"inputs":[2],"signature_name":"other"}"#, "outputs: [1]"),
    (0, "int32", r#"{"signature_name":"","inputs":[[],[]]}"#, "outputs: [[], []]"),
    (0, "two", r#"{"instances":[{"b":1,"a":2,"a":3}]}"#, r#"predictions: [{"a": 2.0, "b": 1}]"#),
    (0, "maybe", r#"{"inputs":{"a":1}}"#, "outputs: 1.0"),
    (0, "maybe", r#"{"instances":[{"a":1}]}"#, "predictions: [1.0]"),
    (0, "int32", "\u{feff} {\"inputs\" : [ 1 ,\n2 ] }", "outputs: [1, 2]"),
];

#[tokio::test]
async fn accepted_bodies_are_answered_as_tensorflow_serving_does() {
    let server = Server::start().await;
    let mut http = server.http().await;
    for &(number, model, body, expected) in ACCEPTED {
        let answer = http.predict(model, body).await;
        assert_eq!(answer.status, 200, "{number} {body}: {}", answer.text());
        let (key, value) = expected.split_once(": ").unwrap();
        let text = format!("{{\n    \"{key}\": {value}\n}}");
        assert_eq!(answer.text(), text, "{number} {body}");
        assert!(answer.head.contains("content-type: application/json"), "{}", answer.head);
    }
}

const ITEM: &str = "Failed to process element: ";

/// Bodies that are refused: the model, the body, the status, and the whole text,
/// with `@` for the start of what is said of one entry.
const REFUSED: &[(u32, &str, &str, u16, &str)] = &[
    (16, "float", "", 400, "JSON Parse error: The document is empty"),
    (17, "float", "instances = [1, 2]", 400, "JSON Parse error: Invalid value. at offset: 0"),
    (18, "float", "[1,2]", 400, "JSON Value: [1, 2] Is not object"),
    (
        19,
        "float",
        r#"{"signature_name":5,"inputs":1}"#,
        400,
        r#"JSON Value: {"signature_name": 5, "inputs": 1} not formatted correctly. 'signature_name' key must be a string value."#,
    ),
    (
        20,
        "float",
        r#"{"instances":[1],"inputs":[1]}"#,
        400,
        r#"JSON Value: {"instances": [1], "inputs": [1]} Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "#,
    ),
    (21, "float", "{}", 400, "Missing 'inputs' or 'instances' key"),
    (
        22,
        "float",
        r#"{"instances":5}"#,
        400,
        r#"JSON Value: {"instances": 5} Expecting 'instances' to be an list/array"#,
    ),
    (
        23,
        "float",
        r#"{"instances":[]}"#,
        400,
        r#"JSON Value: {"instances": []} No values in 'instances' array"#,
    ),
    (
        24,
        "int32",
        r#"{"instances":[[1,2],[3,4],[5,6,7]]}"#,
        400,
        "@2 of 'instances' list. Error: INVALID_ARGUMENT: Expecting tensor size: 2 but got: 3",
    ),
    (
        25,
        "int32",
        r#"{"instances":[[1,2],[3,4],[[5,6]]]}"#,
        400,
        "@2 of 'instances' list. Error: INVALID_ARGUMENT: Expecting shape [2] but got: [1,2]",
    ),
    (
        26,
        "int32",
        r#"{"instances":[1,[1]]}"#,
        400,
        "@1 of 'instances' list. Error: INVALID_ARGUMENT: Expecting shape [] but got: [1]",
    ),
    (
        27,
        "int32",
        r#"{"instances":[[1,2],["a","b"]]}"#,
        400,
        "@1 of 'instances' list. Error: INVALID_ARGUMENT: JSON Value: \"a\" Type: String is not of expected type: int32",
    ),
    (
        28,
        "int32",
        r#"{"instances":[1.0]}"#,
        400,
        "@0 of 'instances' list. Error: INVALID_ARGUMENT: JSON Value: 1.0 Type: Number is not of expected type: int32",
    ),
    (
        29,
        "float",
        r#"{"inputs":["x"]}"#,
        400,
        "JSON Value: \"x\" Type: String is not of expected type: float",
    ),
    (
        30,
        "float",
        r#"{"inputs":[{"b64":"AAAA"}]}"#,
        400,
        r#"JSON Value: {"b64": "AAAA"} Type: Object is not of expected type: float"#,
    ),
    (
        31,
        "string",
        r#"{"instances":[{"b64":"_-_"}]}"#,
        400,
        "@0 of 'instances' list. Error: INVALID_ARGUMENT: Unable to base64 decode",
    ),
    (
        32,
        "bool",
        r#"{"inputs":[1]}"#,
        400,
        "JSON Value: 1 Type: Number is not of expected type: bool",
    ),
    (
        33,
        "float",
        r#"{"inputs":[null]}"#,
        400,
        "JSON Value: null Type: Null is not of expected type: float",
    ),
    (
        35,
        "int32",
        r#"{"inputs":[[1,2],[3]]}"#,
        400,
        "Encountered list at unexpected size: 1 at level: 1 expected size: 2",
    ),
    (
        36,
        "int32",
        r#"{"inputs":[[1,2],3]}"#,
        400,
        "JSON Value: 3 found at incorrect level: 2 in the JSON DOM. Expected at level: 2",
    ),
    (
        37,
        "int32",
        r#"{"inputs":[1,[2]]}"#,
        400,
        "Encountered list at unexpected level: 1 expected < 1",
    ),
    (
        38,
        "float",
        r#"{"instances":[1e400]}"#,
        400,
        "JSON Parse error: Number too big to be stored in double. at offset: 14",
    ),
    (
        39,
        "half",
        r#"{"instances":["0.5"]}"#,
        400,
        "@0 of 'instances' list. Error: INVALID_ARGUMENT: JSON Value: \"0.5\" Type: String is not of expected type: half",
    ),
    (
        39,
        "uint16",
        r#"{"inputs":[65536]}"#,
        400,
        "JSON Value: 65536 Type: Number is not of expected type: uint16",
    ),
    (
        39,
        "uint16",
        r#"{"inputs":[-1]}"#,
        400,
        "JSON Value: -1 Type: Number is not of expected type: uint16",
    ),
    (
        42,
        "two",
        r#"{"instances":[1,2]}"#,
        400,
        "instances is a plain list, but expecting list of objects as multiple input tensors required as per tensorinfo_map",
    ),
    (
        43,
        "two",
        r#"{"inputs":[1,2]}"#,
        400,
        "inputs is a plain value/list, but expecting an object as multiple input tensors required as per tensorinfo_map",
    ),
    (
        44,
        "two",
        r#"{"instances":[{"a":1}]}"#,
        400,
        r#"@0 of 'instances' list. JSON object: {"a": 1} keys must be equal to: a,b"#,
    ),
    (
        45,
        "two",
        r#"{"instances":[{"a":1,"b":2,"c":3}]}"#,
        400,
        "@0 key: c of 'instances' list. Error: INVALID_ARGUMENT: JSON object: does not have named input: c",
    ),
    (
        46,
        "two",
        r#"{"instances":[{"a":1,"b":2},[1]]}"#,
        400,
        "Expecting object but got list at item 1 of input list",
    ),
    (
        47,
        "string",
        r#"{"instances":[["p"],{"x":["q"]}]}"#,
        400,
        "Expecting value/list but got object at item 1 of input list",
    ),
    (48, "two", r#"{"inputs":{"a":1}}"#, 400, "Missing named input: b in 'inputs' object."),
    (
        50,
        "float",
        r#"{"signature_name":"none","inputs":1}"#,
        400,
        "Failed to get input map for signature: none",
    ),
    (61, "unknown", r#"{"inputs":1}"#, 404, "Servable not found for request: Latest(unknown)"),
    (
        62,
        "float/versions/99",
        r#"{"inputs":1}"#,
        404,
        "Servable not found for request: Specific(float, 99)",
    ),
    (63, "float/labels/nope", r#"{"inputs":1}"#, 400, "Unrecognized servable version label: nope"),
    (72, "unknown", "{", 400, "JSON Parse error: Missing a name for object member. at offset: 1"),
    (
        0,
        "float",
        r#"{"signature_name":"nope","inputs":1}"#,
        400,
        "Serving signature name: \"nope\" not found in signature def",
    ),
    (
        0,
        "string",
        r#"{"inputs":[{"b64":5}]}"#,
        400,
        r#"JSON Value: {"b64": 5} not formatted correctly for base64 data"#,
    ),
    (
        0,
        "maybe",
        r#"{"instances":[{"a":1},{"a":1,"optional":2}]}"#,
        400,
        r#"@1 of 'instances' list. JSON object: {"a": 1, "optional": 2} keys must be equal to: a,optional"#,
    ),
];

#[tokio::test]
async fn refused_bodies_get_tensorflow_servings_texts() {
    let server = Server::start().await;
    let mut http = server.http().await;
    for &(number, model, body, status, expected) in REFUSED {
        let answer = http.predict(model, body).await;
        let expected = expected.replacen('@', ITEM, 1);
        assert_eq!((answer.status, answer.error()), (status, expected), "{number} {body}");
        assert!(answer.head.contains("content-type: application/json"), "{}", answer.head);
    }
}

#[tokio::test]
async fn what_is_unknown_is_skipped_at_any_depth() {
    let server = Server::start().await;
    let nested = format!("{}{}", "[".repeat(500_000), "]".repeat(500_000));
    let body = format!("{{\"instances\":[1],\"nested\":{nested}}}");
    let answer = server.http().await.predict("float", body).await;
    assert_eq!((answer.status, answer.text().contains("[1.0]")), (200, true));
    // Where it would be a tensor, it is too deep.
    let answer = server.http().await.predict("float", format!("{{\"inputs\":{nested}}}")).await;
    assert_eq!(answer.error(), "Encountered list nested deeper than the limit of 128");
}
