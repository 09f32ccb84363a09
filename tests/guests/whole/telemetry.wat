;; Wants a function of telemetry that there is not.
(component
  (import "ingle:plugin/telemetry@0.1.0" (instance (export "exfiltrate" (func (param "to" string)))))
  (instance $preprocess)
  (export "ingle:plugin/preprocess@0.1.0" (instance $preprocess)))
