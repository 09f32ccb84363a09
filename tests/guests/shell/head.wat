;; The contract's types and the one import, then a memory with an allocator and ready
;; answers, which guests change before they return them.
(component
  (type $types-interface (instance
    (type $data-type' (enum "boolean" "uint8" "uint16" "uint32" "uint64" "int8" "int16" "int32"
      "int64" "float16" "bfloat16" "float32" "float64" "bytes"))
    (export "data-type" (type $data-type (eq $data-type')))
    (type $tensor-data' (variant (case "dense" (list u8)) (case "blobs" (list (list u8)))))
    (export "tensor-data" (type $tensor-data (eq $tensor-data')))
    (type $tensor' (record (field "name" string) (field "data-type" $data-type)
      (field "shape" (list u64)) (field "data" $tensor-data)))
    (export "tensor" (type $tensor (eq $tensor')))
    (type $tensor-spec' (record (field "name" string) (field "data-type" $data-type)
      (field "shape" (list s64)) (field "optional" bool) (field "description" string)))
    (export "tensor-spec" (type $tensor-spec (eq $tensor-spec')))
    (type $error-code' (enum "invalid-argument" "not-found" "failed-precondition"
      "resource-exhausted" "unimplemented" "deadline-exceeded" "unavailable" "internal"))
    (export "error-code" (type $error-code (eq $error-code')))
    (type $error' (record (field "code" $error-code) (field "message" string)))
    (export "error" (type $error (eq $error')))
    (type $value' (variant (case "flag" bool) (case "int" s64) (case "float" f64)
      (case "text" string)))
    (export "value" (type $value (eq $value')))
    (type $request-context' (record (field "request-id" string) (field "model" string)
      (field "version" u64) (field "signature" string)
      (field "parameters" (list (tuple string $value))) (field "remaining-ns" (option u64))))
    (export "request-context" (type $request-context (eq $request-context')))
    (type $file' (record (field "name" string) (field "content" (list u8))))
    (export "file" (type $file (eq $file')))
    (type $init-options' (record (field "config" string) (field "files" (list $file))
      (field "model-inputs" (list $tensor-spec)) (field "model-outputs" (list $tensor-spec))))
    (export "init-options" (type $init-options (eq $init-options')))
    (type $plugin-info' (record (field "name" string) (field "version" string)
      (field "description" string) (field "public-spec" (list $tensor-spec))))
    (export "plugin-info" (type $plugin-info (eq $plugin-info')))))
  (import "ingle:plugin/types@0.1.0" (instance $types (type $types-interface)))
  (alias export $types "tensor" (type $tensor))
  (alias export $types "error" (type $error))
  (alias export $types "request-context" (type $request-context))
  (alias export $types "init-options" (type $init-options))
  (alias export $types "plugin-info" (type $plugin-info))

  (type $telemetry-interface (instance
    (type $level' (enum "trace" "debug" "info" "warn" "error"))
    (export "level" (type $level (eq $level')))
    (export "log" (func (param "level" $level) (param "message" string)))
    (export "enabled" (func (param "level" $level) (result bool)))))
  (import "ingle:plugin/telemetry@0.1.0" (instance $telemetry (type $telemetry-interface)))

  (core module $memory
    (memory (export "memory") 1)
    (global $next (mut i32) (i32.const 0x4000))
    (func $alloc (export "alloc") (param $size i32) (result i32) (local $start i32)
      (local.set $start (i32.and (i32.add (global.get $next) (i32.const 15)) (i32.const -16)))
      (global.set $next (i32.add (local.get $start) (local.get $size)))
      (block $fits
        (br_if $fits (i32.le_u (global.get $next) (i32.mul (memory.size) (i32.const 0x10000))))
        (br_if $fits (i32.ge_s (memory.grow (i32.add (i32.const 1) (i32.shr_u
          (i32.sub (global.get $next) (i32.mul (memory.size) (i32.const 0x10000)))
          (i32.const 16)))) (i32.const 0)))
        unreachable)
      (local.get $start))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (call $alloc (local.get 3)))

    ;; 0x400: result<plugin-info, error>: ok, one public tensor
    (data (i32.const 0x400) "\00\00\00\00" "\00\05\00\00\05\00\00\00" "\05\05\00\00\05\00\00\00"
      "\00\00\00\00\00\00\00\00" "\80\04\00\00\01\00\00\00")
    ;; 0x480: its tensor-spec: "x", float32, [-1]
    (data (i32.const 0x480) "\0a\05\00\00\01\00\00\00" "\0b\00\00\00" "\c0\04\00\00\01\00\00\00"
      "\00\00\00\00" "\00\00\00\00\00\00\00\00")
    (data (i32.const 0x4c0) "\ff\ff\ff\ff\ff\ff\ff\ff")
    (data (i32.const 0x500) "guest1.0.0x")
    ;; 0x600: result<prepared, error>: ok, one example, no carry
    (data (i32.const 0x600) "\00\00\00\00" "\40\06\00\00\01\00\00\00" "\00\00\00\00\00\00\00\00")
    ;; 0x620: result<list<tensor>, error>: ok, one tensor
    (data (i32.const 0x620) "\00\00\00\00" "\80\06\00\00\01\00\00\00")
    ;; 0x640: the example: one tensor
    (data (i32.const 0x640) "\80\06\00\00\01\00\00\00")
    ;; 0x680: the tensor: "x", float32, [2], dense, 8 bytes
    (data (i32.const 0x680) "\0a\05\00\00\01\00\00\00" "\0b\00\00\00" "\c0\06\00\00\01\00\00\00"
      "\00\00\00\00" "\00\07\00\00\08\00\00\00")
    (data (i32.const 0x6c0) "\02\00\00\00\00\00\00\00")
    (data (i32.const 0x700) "\00\00\80\3f\00\00\00\40"))
  (core instance $memory (instantiate $memory))
  (alias core export $memory "memory" (core memory $mem))
  (alias core export $memory "realloc" (core func $realloc))
  (core func $log (canon lower (func $telemetry "log") (memory $mem)))
  (core func $enabled (canon lower (func $telemetry "enabled")))
  (type $handle (resource (rep i32)))
  (core func $handle (canon resource.new $handle))
  (core instance $env
    (export "memory" (memory $mem))
    (export "alloc" (func $memory "alloc"))
    (export "log" (func $log))
    (export "enabled" (func $enabled))
    (export "handle" (func $handle)))
