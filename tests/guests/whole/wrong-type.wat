;; Exports `init` and `process`, but of other types.
(component
  (core module $guest (func (export "f") (result i32) (i32.const 7)))
  (core instance $guest (instantiate $guest))
  (func $f (result u32) (canon lift (core func $guest "f")))
  (instance $postprocess (export "init" (func $f)) (export "process" (func $f)))
  (export "ingle:plugin/postprocess@0.1.0" (instance $postprocess)))
