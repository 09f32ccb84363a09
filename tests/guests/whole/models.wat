;; Wants an interface of our own package that this contract does not have.
(component
  (import "ingle:plugin/models@0.1.0" (instance (export "list" (func (result (list string))))))
  (instance $preprocess)
  (export "ingle:plugin/preprocess@0.1.0" (instance $preprocess)))
