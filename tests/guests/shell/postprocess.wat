  ;; The guest's functions and the place of its answer.
  (core module $postprocess-guest
    (type $init (func (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
    (type $process (func
      (param i32 i32 i32 i32 i64 i32 i32 i32 i32 i32 i64 i32 i32 i32 i32) (result i32)))
    (import "env" "memory" (memory 1))
    (import "env" "alloc" (func $alloc (param i32) (result i32)))
    (import "env" "log" (func $log (param i32 i32 i32)))
    (import "env" "enabled" (func $enabled (param i32) (result i32)))
    (import "env" "handle" (func $handle (param i32) (result i32)))
    (global $answer i32 (i32.const 0x620))
    (global $tensors i32 (i32.const 0x624))
    ;; GUEST
  )
  (core instance $postprocess-guest (instantiate $postprocess-guest (with "env" (instance $env))))
  (type $model-result' (record (field "outputs" (list $tensor))))
  (export $model-result "model-result" (type $model-result'))
  (func $post-init
    (param "options" $init-options) (result (result $plugin-info (error $error)))
    (canon lift (core func $postprocess-guest "init") (memory $mem) (realloc $realloc)))
  (func $post-process
    (param "ctx" $request-context) (param "results" (list $model-result))
    (param "carry" (list u8)) (result (result (list $tensor) (error $error)))
    (canon lift (core func $postprocess-guest "process") (memory $mem) (realloc $realloc)))
  (instance $postprocess (export "init" (func $post-init)) (export "process" (func $post-process)))
  (export "ingle:plugin/postprocess@0.1.0" (instance $postprocess))
