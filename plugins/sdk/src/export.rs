/// Makes a type that implements [`Preprocess`](crate::Preprocess) the component's plugin.
/// A native build only checks the type.
#[macro_export]
macro_rules! export_preprocess {
    ($plugin:ty) => {
        #[cfg(not(target_family = "wasm"))]
        const _: fn() = || {
            fn is_a_preprocessor<T: $crate::Preprocess>() {}
            is_a_preprocessor::<$plugin>();
        };
        #[cfg(target_family = "wasm")]
        const _: () = {
            $crate::__slot!($plugin);
            type Component = $crate::glue::Preprocessor<$plugin>;
            $crate::glue::bindings::preprocessor::export!(
                Component with_types_in $crate::glue::bindings::preprocessor
            );
        };
    };
}

/// Makes a type that implements [`Postprocess`](crate::Postprocess) the component's plugin.
/// A native build only checks the type.
#[macro_export]
macro_rules! export_postprocess {
    ($plugin:ty) => {
        #[cfg(not(target_family = "wasm"))]
        const _: fn() = || {
            fn is_a_postprocessor<T: $crate::Postprocess>() {}
            is_a_postprocessor::<$plugin>();
        };
        #[cfg(target_family = "wasm")]
        const _: () = {
            $crate::__slot!($plugin);
            type Component = $crate::glue::Postprocessor<$plugin>;
            $crate::glue::bindings::postprocessor::export!(
                Component with_types_in $crate::glue::bindings::postprocessor
            );
        };
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __slot {
    ($plugin:ty) => {
        impl $crate::glue::Slot for $plugin {
            fn with<R>(run: impl FnOnce(&mut Option<Self>) -> R) -> R {
                ::std::thread_local! {
                    static PLUGIN: ::std::cell::RefCell<Option<$plugin>> =
                        const { ::std::cell::RefCell::new(None) };
                }
                PLUGIN.with_borrow_mut(run)
            }
        }
    };
}
