;; Wants a socket, a clock and the environment.
(component
  (import "wasi:sockets/tcp@0.2.3" (instance (export "tcp-socket" (type (sub resource)))))
  (import "wasi:clocks/monotonic-clock@0.2.3" (instance (export "now" (func (result u64)))))
  (import "wasi:cli/environment@0.2.3"
    (instance (export "get-environment" (func (result (list (tuple string string)))))))
  (instance $preprocess)
  (export "ingle:plugin/preprocess@0.1.0" (instance $preprocess)))
