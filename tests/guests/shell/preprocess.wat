  ;; The guest's functions and the place of its answer.
  (core module $preprocess-guest
    (type $init (func (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
    (type $process (func
      (param i32 i32 i32 i32 i64 i32 i32 i32 i32 i32 i64 i32 i32) (result i32)))
    (import "env" "memory" (memory 1))
    (import "env" "alloc" (func $alloc (param i32) (result i32)))
    (import "env" "log" (func $log (param i32 i32 i32)))
    (import "env" "enabled" (func $enabled (param i32) (result i32)))
    (import "env" "handle" (func $handle (param i32) (result i32)))
    (global $answer i32 (i32.const 0x600))
    (global $tensors i32 (i32.const 0x640))
    ;; GUEST
  )
  (core instance $preprocess-guest (instantiate $preprocess-guest (with "env" (instance $env))))
  (type $example' (record (field "inputs" (list $tensor))))
  (export $example "example" (type $example'))
  (type $prepared' (record (field "examples" (list $example)) (field "carry" (list u8))))
  (export $prepared "prepared" (type $prepared'))
  (func $pre-init
    (param "options" $init-options) (result (result $plugin-info (error $error)))
    (canon lift (core func $preprocess-guest "init") (memory $mem) (realloc $realloc)))
  (func $pre-process
    (param "ctx" $request-context) (param "inputs" (list $tensor))
    (result (result $prepared (error $error)))
    (canon lift (core func $preprocess-guest "process") (memory $mem) (realloc $realloc)))
  (instance $preprocess (export "init" (func $pre-init)) (export "process" (func $pre-process)))
  (export "ingle:plugin/preprocess@0.1.0" (instance $preprocess))
