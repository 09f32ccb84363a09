//! Whether a device answers, found out before Burn is asked: Burn panics on a
//! thread of its own where a driver or a library is missing.

#[cfg(feature = "cuda")]
pub(crate) use self::cuda::probe as cuda;
#[cfg(feature = "vulkan")]
pub(crate) use self::vulkan::{device as vulkan_device, probe as vulkan};

#[cfg(not(feature = "cuda"))]
pub(crate) fn cuda(_: usize) -> Result<(), String> {
    Err("this binary was built without CUDA".to_owned())
}

#[cfg(not(feature = "vulkan"))]
pub(crate) fn vulkan(_: usize) -> Result<(), String> {
    Err("this binary was built without Vulkan".to_owned())
}

#[cfg(feature = "cuda")]
mod cuda {
    use std::ffi::{OsStr, c_int, c_uint};
    use std::path::Path;

    use libloading::Library;

    const DRIVER: [&str; 3] = ["libcuda.so.1", "libcuda.so", "nvcuda.dll"];
    const COMPILER: [&str; 5] =
        ["libnvrtc.so", "libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11", "nvrtc64_120_0.dll"];

    /// Looks for the driver, device `index`, and what Burn compiles kernels with.
    pub(crate) fn probe(index: usize) -> Result<(), String> {
        let driver = open(&DRIVER).ok_or("no NVIDIA driver (libcuda) was found")?;
        let devices = count_devices(&driver)?;
        if index >= devices {
            return Err(format!("the driver knows {devices} CUDA devices"));
        }
        open(&COMPILER).ok_or("NVRTC (libnvrtc), which compiles the kernels, was not found")?;
        if !headers_exist() {
            return Err("no CUDA headers were found: set CUDA_PATH".to_owned());
        }
        Ok(())
    }

    #[expect(unsafe_code, reason = "dlopen of the vendor's library, whose initialisers are sound")]
    fn open(names: &[&str]) -> Option<Library> {
        // SAFETY: these are the very libraries that Burn loads later.
        names.iter().find_map(|name| unsafe { Library::new(OsStr::new(name)) }.ok())
    }

    #[expect(unsafe_code, reason = "two calls into the driver, to ask before Burn does")]
    fn count_devices(driver: &Library) -> Result<usize, String> {
        let missing = |_| "the NVIDIA driver lacks the expected functions".to_owned();
        let mut count: c_int = 0;
        // SAFETY: the signatures are those of the CUDA driver API (cuda.h): CUresult
        // cuInit(unsigned int) and CUresult cuDeviceGetCount(int *); `count` outlives
        // the call, and cuInit may be called any number of times.
        let status = unsafe {
            let init = driver
                .get::<unsafe extern "C" fn(c_uint) -> c_int>(b"cuInit\0")
                .map_err(missing)?;
            let get_count = driver
                .get::<unsafe extern "C" fn(*mut c_int) -> c_int>(b"cuDeviceGetCount\0")
                .map_err(missing)?;
            match init(0) {
                0 => get_count(&raw mut count),
                failed => failed,
            }
        };
        match status {
            0 => Ok(usize::try_from(count).unwrap_or_default()),
            // CUDA_ERROR_NO_DEVICE.
            100 => Ok(0),
            code => Err(format!("the NVIDIA driver failed with CUDA error {code}")),
        }
    }

    /// Burn insists on a toolkit's folder, although it only needs its headers.
    #[expect(clippy::disallowed_methods, reason = "Burn reads this variable itself")]
    fn headers_exist() -> bool {
        std::env::var("CUDA_PATH").is_ok()
            || ["/usr/local/cuda", "/opt/cuda", "/usr/bin/nvcc"]
                .iter()
                .any(|p| Path::new(p).exists())
    }
}

#[cfg(feature = "vulkan")]
mod vulkan {
    use burn::backend::wgpu::graphics::{GraphicsApi, Vulkan};
    use burn::backend::wgpu::{WgpuDevice, WgpuRuntime};
    use burn::cubecl::Runtime;
    use burn::cubecl::device::{Device, DeviceId};

    /// Looks for the loader, a driver and device `index`.
    pub(crate) fn probe(index: usize) -> Result<(), String> {
        let devices = devices().len();
        if index >= devices {
            return Err(format!("the Vulkan loader found {devices} devices"));
        }
        Ok(())
    }

    /// The device as Burn counts: by its kind.
    pub(crate) fn device(index: usize) -> WgpuDevice {
        let devices = devices();
        let Some(id) = devices.get(index) else { return WgpuDevice::DefaultDevice };
        let before = devices.iter().take(index).filter(|d| d.type_id == id.type_id).count();
        let before = u16::try_from(before).unwrap_or(u16::MAX);
        WgpuDevice::from_id(DeviceId::new(id.type_id, before))
    }

    fn devices() -> Vec<DeviceId> {
        WgpuRuntime::enumerate_all_devices(&Vulkan::backend())
    }
}
