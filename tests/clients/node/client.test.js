// gRPC's own library for Node against a running server, with the messages of proto/: what a
// service written in another language sends and reads. Run by tests/clients/test_node.py, which
// says where the server and the proto files are.
"use strict";

const assert = require("node:assert/strict");
const http2 = require("node:http2");
const { after, test } = require("node:test");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const TIMEOUT_MS = 60_000;
const GIB = 1024 ** 3;

const definition = loader.loadSync(
  [
    "tensorflow_serving/apis/prediction_service.proto",
    "tensorflow_serving/apis/model_service.proto",
    "grpc/health/v1/health.proto",
  ],
  // 64-bit integers as text: a Number has 53 bits.
  {
    includeDirs: [process.env.INGLE_PROTOS],
    keepCase: true,
    longs: String,
    enums: String,
    defaults: true,
    oneofs: true,
  },
);
const { tensorflow, grpc: standard } = grpc.loadPackageDefinition(definition);

const clients = [];
function client(Service, options = {}) {
  const limits = {
    "grpc.max_send_message_length": GIB,
    "grpc.max_receive_message_length": GIB,
    ...options,
  };
  const made = new Service(process.env.INGLE_GRPC, grpc.credentials.createInsecure(), limits);
  clients.push(made);
  return made;
}
const predictions = client(tensorflow.serving.PredictionService);
const models = client(tensorflow.serving.ModelService);
after(() => clients.forEach((each) => each.close()));

function call(service, method, request) {
  const deadline = Date.now() + TIMEOUT_MS;
  return new Promise((resolve, reject) => {
    service[method](request, { deadline }, (error, answer) => (error ? reject(error) : resolve(answer)));
  });
}

function tensor(dtype, sizes, values) {
  return { dtype, tensor_shape: { dim: sizes.map((size) => ({ size })) }, ...values };
}

function float32(values) {
  const bytes = Buffer.alloc(4 * values.length);
  values.forEach((value, index) => bytes.writeFloatLE(value, 4 * index));
  return bytes;
}

function predict(spec, inputs, rest = {}, service = predictions) {
  return call(service, "predict", { model_spec: spec, inputs, ...rest });
}

// What the model that answers with its input makes of a tensor.
async function echo(dtype, sent) {
  const { outputs } = await predict({ name: `identity_${dtype}` }, { x: sent });
  assert.deepEqual(
    outputs.y.tensor_shape.dim.map((dim) => dim.size),
    sent.tensor_shape.dim.map((dim) => String(dim.size)),
  );
  assert.equal(outputs.y.dtype, sent.dtype);
  assert.equal(outputs.y.tensor_content.length, 0);
  return outputs.y;
}

async function refused(work, code, text) {
  const error = await work.then(() => assert.fail("it was answered"), (error) => error);
  assert.equal(error.code, code, error.message);
  assert.match(error.details, text);
}

test("predict in the typed field", async () => {
  const answer = await predict({ name: "half_plus" }, { x: tensor("DT_FLOAT", [2], { float_val: [2, 4] }) });
  assert.deepEqual(answer.outputs.y.float_val, [3, 4]);
  assert.equal(answer.model_spec.name, "half_plus");
  assert.equal(answer.model_spec.version.value, "2");
  assert.equal(answer.model_spec.signature_name, "serving_default");
});

test("predict in tensor_content", async () => {
  const x = tensor("DT_FLOAT", [2], { tensor_content: float32([2, 4]) });
  const answer = await predict({ name: "half_plus" }, { x });
  assert.deepEqual(answer.outputs.y.float_val, [3, 4]);
});

test("predict by version and by label", async () => {
  const x = tensor("DT_FLOAT", [1], { float_val: [2] });
  for (const choice of [{ version: { value: 1 } }, { version_label: "stable" }]) {
    const answer = await predict({ name: "half_plus", ...choice }, { x });
    assert.deepEqual(answer.outputs.y.float_val, [2]);
    assert.equal(answer.model_spec.version.value, "1");
  }
});

test("two inputs and an output filter", async () => {
  const a = tensor("DT_FLOAT", [1, 2], { float_val: [1, 2] });
  const b = tensor("DT_FLOAT", [1, 2], { float_val: [10, 20] });
  const { outputs } = await predict({ name: "pair" }, { a, b }, { output_filter: ["sum"] });
  assert.deepEqual(Object.keys(outputs), ["sum"]);
  assert.deepEqual(outputs.sum.float_val, [11, 22]);
});

test("strings in the typed field", async () => {
  const values = [Buffer.from("añ"), Buffer.from([0, 255]), Buffer.alloc(0)];
  const answer = await echo("string", tensor("DT_STRING", [3], { string_val: values }));
  assert.deepEqual(answer.string_val, values);
});

test("strings in tensor_content", async () => {
  const bytes = Buffer.from("\x02\x01hey");
  const answer = await echo("string", tensor("DT_STRING", [2], { tensor_content: bytes }));
  assert.deepEqual(answer.string_val.map(String), ["he", "y"]);
});

test("int64 beyond a Number, in both encodings", async () => {
  const values = ["-9223372036854775808", "9223372036854775807", "9007199254740993"];
  const typed = await echo("int64", tensor("DT_INT64", [3], { int64_val: values }));
  assert.deepEqual(typed.int64_val, values);
  const bytes = Buffer.alloc(24);
  values.forEach((value, index) => bytes.writeBigInt64LE(BigInt(value), 8 * index));
  const content = await echo("int64", tensor("DT_INT64", [3], { tensor_content: bytes }));
  assert.deepEqual(content.int64_val, values);
});

const OTHERS = [
  ["float64", "DT_DOUBLE", "double_val", [0.1, -1e300]],
  ["int32", "DT_INT32", "int_val", [-2147483648, 2147483647]],
  ["int16", "DT_INT16", "int_val", [-32768, 32767]],
  ["int8", "DT_INT8", "int_val", [-128, 127]],
  ["uint8", "DT_UINT8", "int_val", [0, 255]],
  ["uint16", "DT_UINT16", "int_val", [0, 65535]],
  ["uint32", "DT_UINT32", "uint32_val", [0, 4294967295]],
  ["uint64", "DT_UINT64", "uint64_val", ["0", "18446744073709551615"]],
  ["float16", "DT_HALF", "half_val", [0x3c00, 0xfc00]],
  ["bfloat16", "DT_BFLOAT16", "half_val", [0x3f80, 0xff80]],
  ["bool", "DT_BOOL", "bool_val", [true, false]],
];
test("the other dtypes", async () => {
  for (const [name, dtype, field, values] of OTHERS) {
    const answer = await echo(name, tensor(dtype, [2], { [field]: values }));
    assert.deepEqual(answer[field], values, name);
  }
});

test("an empty tensor and a scalar", async () => {
  assert.deepEqual((await echo("float32", tensor("DT_FLOAT", [0, 3], {}))).float_val, []);
  assert.deepEqual((await echo("float32", tensor("DT_FLOAT", [], { float_val: [7] }))).float_val, [7]);
});

test("a compressed request", async () => {
  const gzip = grpc.compressionAlgorithms.gzip;
  const service = client(tensorflow.serving.PredictionService, { "grpc.default_compression_algorithm": gzip });
  const x = tensor("DT_FLOAT", [1000], { float_val: Array(1000).fill(2) });
  const answer = await predict({ name: "half_plus" }, { x }, {}, service);
  assert.deepEqual(answer.outputs.y.float_val, Array(1000).fill(3));
});

test("a message larger than gRPC's default of 4 MiB, both ways", async () => {
  const bytes = Buffer.alloc(6 * 1024 ** 2, 1);
  const answer = await echo("uint8", tensor("DT_UINT8", [bytes.length], { tensor_content: bytes }));
  assert.equal(answer.int_val.length, bytes.length);
  assert.ok(answer.int_val.every((value) => value === 1));
});

test("calls on one connection at a time", async () => {
  const one = async (value) => {
    const x = tensor("DT_FLOAT", [1], { float_val: [value] });
    const { outputs } = await predict({ name: "half_plus", version: { value: 1 } }, { x });
    assert.deepEqual(outputs.y.float_val, [value / 2 + 1]);
  };
  await Promise.all(Array.from({ length: 100 }, (_, index) => one(index)));
});

test("classify, regress and multi-inference", async () => {
  const example = (count) => ({
    features: { feature: { x: { float_list: { value: [0.75, 0.25] } }, count: { int64_list: { value: [count] } } } },
  });
  const input = { example_list: { examples: [example(7), example(-2)] } };
  const spec = { name: "scores_and_outputs" };
  const classes = [{ label: "", score: 0.75 }, { label: "", score: 0.25 }];
  const both = [{ classes }, { classes }];
  const classified = await call(predictions, "classify", { model_spec: spec, input });
  assert.deepEqual(classified.result.classifications, both);
  const regressed = await call(predictions, "regress", { model_spec: spec, input });
  assert.deepEqual(regressed.result.regressions, [{ value: 8 }, { value: -1 }]);
  const tasks = [
    { model_spec: { ...spec, signature_name: "second" }, method_name: "tensorflow/serving/regress" },
    { model_spec: spec, method_name: "tensorflow/serving/classify" },
  ];
  const { results } = await call(predictions, "multiInference", { tasks, input });
  assert.deepEqual(results[0].regression_result.regressions, [{ value: 8 }, { value: -1 }]);
  assert.deepEqual(results[1].classification_result.classifications, both);
});

test("status", async () => {
  const fine = { error_code: "OK", error_message: "" };
  const row = (version) => ({ version, state: "AVAILABLE", status: fine });
  const all = await call(models, "getModelStatus", { model_spec: { name: "half_plus" } });
  assert.deepEqual(all.model_version_status, [row("2"), row("1")]);
  const one = await call(models, "getModelStatus", { model_spec: { name: "half_plus", version: { value: 1 } } });
  assert.deepEqual(one.model_version_status, [row("1")]);
});

test("metadata", async () => {
  const request = { model_spec: { name: "half_plus" }, metadata_field: ["signature_def"] };
  const answer = await call(predictions, "getModelMetadata", request);
  assert.equal(answer.model_spec.version.value, "2");
  const any = answer.metadata.signature_def;
  assert.equal(any.type_url, "type.googleapis.com/tensorflow.serving.SignatureDefMap");
  const { signature_def } = definition["tensorflow.serving.SignatureDefMap"].deserialize(any.value);
  assert.deepEqual(Object.keys(signature_def), ["serving_default"]);
  const { inputs, outputs, method_name } = signature_def.serving_default;
  assert.equal(method_name, "tensorflow/serving/predict");
  for (const info of [inputs.x, outputs.y]) {
    assert.equal(info.dtype, "DT_FLOAT");
    assert.deepEqual(info.tensor_shape.dim.map((dim) => dim.size), ["-1"]);
  }
});

test("errors have TensorFlow Serving's codes and texts", async () => {
  const x = tensor("DT_FLOAT", [1], { float_val: [2] });
  const { NOT_FOUND, INVALID_ARGUMENT, FAILED_PRECONDITION } = grpc.status;
  const table = [
    [{ name: "nobody" }, { x }, NOT_FOUND, /^Servable not found for request: Latest\(nobody\)$/],
    [{ name: "half_plus", version: { value: 9 } }, { x }, NOT_FOUND, /Specific\(half_plus, 9\)$/],
    [{ name: "half_plus", version_label: "nope" }, { x }, INVALID_ARGUMENT, /^Unrecognized servable version label: nope$/],
    [{ name: "half_plus", signature_name: "nope" }, { x }, FAILED_PRECONDITION, /^Serving signature key "nope" not found\.$/],
    [{ name: "half_plus" }, {}, INVALID_ARGUMENT, /^input size does not match signature: 0!=1 /],
    [{ name: "half_plus" }, { y: x }, INVALID_ARGUMENT, /^Signature input alias: x/],
    [{ name: "half_plus" }, { x: { ...x, tensor_content: Buffer.alloc(3) } }, INVALID_ARGUMENT, /^tensor parsing error: x/],
    [null, { x }, INVALID_ARGUMENT, /^Missing ModelSpec$/],
  ];
  for (const [spec, inputs, code, text] of table) {
    await refused(predict(spec, inputs), code, text);
  }
  const status = call(models, "getModelStatus", { model_spec: { name: "nobody" } });
  await refused(status, NOT_FOUND, /^Could not find any versions of model nobody$/);
});

// The trailers that the server itself sends; a library would give up by its own clock.
function raw(path, headers, message) {
  const session = http2.connect(`http://${process.env.INGLE_GRPC}`);
  const stream = session.request({
    ":method": "POST",
    ":path": path,
    "content-type": "application/grpc",
    te: "trailers",
    ...headers,
  });
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(message.length, 1);
  stream.end(Buffer.concat([prefix, message]));
  stream.resume();
  return new Promise((resolve, reject) => {
    let seen = {};
    const add = (more) => (seen = { ...seen, ...more });
    stream.on("response", add).on("trailers", add).on("error", reject);
    stream.on("close", () => session.close() ?? resolve(seen));
  });
}

test("a deadline that passes is told by the server", async () => {
  const x = tensor("DT_FLOAT", [1], { float_val: [2] });
  const request = { model_spec: { name: "half_plus" }, inputs: { x } };
  const message = definition["tensorflow.serving.PredictRequest"].serialize(request);
  const path = "/tensorflow.serving.PredictionService/Predict";
  const late = await raw(path, { "grpc-timeout": "1n" }, message);
  assert.equal(late["grpc-status"], String(grpc.status.DEADLINE_EXCEEDED));
  assert.equal(decodeURIComponent(late["grpc-message"]), "Timed out waiting for notification");
  const early = await raw(path, { "grpc-timeout": "60S" }, message);
  assert.equal(early["grpc-status"], "0");
});

test("health", async () => {
  const health = client(standard.health.v1.Health);
  for (const service of ["", "PredictionService", "half_plus"]) {
    assert.deepEqual(await call(health, "check", { service }), { status: "SERVING" });
  }
  await refused(call(health, "check", { service: "nobody" }), grpc.status.NOT_FOUND, /unknown service/);
});
