//! Which wheels libtorch is made of, and which of their members: data, one layout a platform and flavour.
//!
//! There is no package of libtorch alone. The wheel of PyTorch holds it, in a build that expects CUDA on Linux. Of that
//! wheel the CPU layout takes the CPU libraries and the headers; `libtorch.so`, which would load the CUDA libraries, is
//! replaced by a link to `libtorch_cpu.so`, and two small CUDA libraries that `libtorch_cpu.so` names are put beside it.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// The version that the crate `tch` is written for.
pub(crate) const VERSION: &str = "2.13.0";

/// CPU only, or with CUDA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavour {
    /// 0.5 GB staged from 0.5 GB of wheels.
    Cpu,
    /// Several GB.
    Cuda,
}

/// A member of a wheel, or with a `/` at the end a whole folder, and where it goes.
pub(crate) struct Take {
    pub(crate) from: &'static str,
    pub(crate) to: &'static str,
}

/// One wheel, pinned.
pub(crate) struct Wheel {
    pub(crate) project: &'static str,
    pub(crate) version: &'static str,
    pub(crate) sha256: &'static str,
    pub(crate) takes: Vec<Take>,
}

/// A staged libtorch: a folder of the cache, what goes into it, and how it is asked for.
pub(crate) struct Layout {
    /// The folder's name in the cache.
    pub(crate) name: &'static str,
    /// The folder inside it that `target/libtorch` points to; `.` for the whole.
    linked: &'static str,
    pub(crate) wheels: Vec<Wheel>,
    /// Values of pip's `--platform`. pip does not widen an older tag to a newer one by itself, so each is named.
    pub(crate) platforms: Vec<String>,
    /// Whether `lib/libtorch.so` becomes a link to `libtorch_cpu.so`.
    pub(crate) links_cpu: bool,
}

impl Layout {
    /// The layout for this machine.
    pub(crate) fn here(flavour: Flavour) -> Result<Self> {
        let system = if cfg!(target_env = "musl") {
            "musl"
        } else {
            std::env::consts::OS
        };
        Self::of(flavour, system, std::env::consts::ARCH)
    }

    /// The layout for a system and architecture, as Rust names them.
    pub(crate) fn of(flavour: Flavour, system: &str, architecture: &str) -> Result<Self> {
        match (flavour, system, architecture) {
            (Flavour::Cpu, "linux", "x86_64") => Ok(Self::linux_cpu(
                "x86_64",
                TORCH_X86_64,
                LIBRARIES_X86_64,
                &NVIDIA_X86_64,
            )),
            (Flavour::Cpu, "linux", "aarch64") => Ok(Self::linux_cpu(
                "aarch64",
                TORCH_AARCH64,
                LIBRARIES_AARCH64,
                &NVIDIA_AARCH64,
            )),
            (Flavour::Cuda, "linux", "x86_64") => Ok(Self::linux_cuda("x86_64", TORCH_X86_64, &NVIDIA_X86_64)),
            (Flavour::Cuda, "linux", "aarch64") => Ok(Self::linux_cuda("aarch64", TORCH_AARCH64, &NVIDIA_AARCH64)),
            (Flavour::Cpu, "macos", "aarch64") => Ok(Self::macos()),
            (Flavour::Cuda, _, _) => {
                bail!("there is no CUDA build of libtorch {VERSION} for {system} on {architecture}")
            }
            _ => bail!(
                "no package of libtorch {VERSION} is known for {system} on {architecture}; build or install it yourself and set LIBTORCH to its folder"
            ),
        }
    }

    /// The folder that `target/libtorch` points to, in a copy at `whole`.
    pub(crate) fn linked(&self, whole: &Path) -> PathBuf {
        // Put together again from its parts, which leaves a `.` out.
        whole.join(self.linked).components().collect()
    }

    /// What the stamp of a whole copy says. A copy with another stamp, or none, is made anew.
    pub(crate) fn stamp(&self) -> String {
        let mut stamp = format!("libtorch {VERSION}, staged by `cargo xtask setup`, layout {LAYOUT}\n");
        for wheel in &self.wheels {
            stamp += &format!("{} {} {}\n", wheel.project, wheel.version, wheel.sha256);
        }
        stamp
    }

    fn linux_cpu(architecture: &str, torch: &'static str, libraries: &[Take], nvidia: &[Pin; 15]) -> Self {
        let mut takes = vec![Take {
            from: "torch/include/",
            to: "include/",
        }];
        takes.extend(libraries.iter().map(|take| Take { ..*take }));
        let mut wheels = vec![Wheel {
            project: "torch",
            version: VERSION,
            sha256: torch,
            takes,
        }];
        let needed = [
            Take {
                from: "nvidia/cu13/lib/libcudart.so.13",
                to: "lib/libcudart.so.13",
            },
            Take {
                from: "nvidia/cu13/lib/libcupti.so.13",
                to: "lib/libcupti.so.13",
            },
        ];
        wheels.extend(nvidia.iter().zip(needed).map(|(pin, take)| wheel(pin, take)));
        Self {
            name: "libtorch-2.13.0-cpu",
            linked: ".",
            wheels,
            platforms: ["2_28", "2_25", "2_17"]
                .map(|glibc| format!("manylinux_{glibc}_{architecture}"))
                .into(),
            links_cpu: true,
        }
    }

    /// The whole wheel and the libraries that its run path names, in the folders it expects them in.
    fn linux_cuda(architecture: &str, torch: &'static str, nvidia: &[Pin; 15]) -> Self {
        let takes = vec![
            Take {
                from: "torch/include/",
                to: "torch/include/",
            },
            Take {
                from: "torch/lib/",
                to: "torch/lib/",
            },
        ];
        let mut wheels = vec![Wheel {
            project: "torch",
            version: VERSION,
            sha256: torch,
            takes,
        }];
        wheels.extend(nvidia.iter().map(|pin| {
            wheel(
                pin,
                Take {
                    from: "nvidia/",
                    to: "nvidia/",
                },
            )
        }));
        let mut platforms: Vec<String> = ["2_28", "2_27", "2_25", "2_18", "2_17", "2_12", "2_5"]
            .map(|glibc| format!("manylinux_{glibc}_{architecture}"))
            .into();
        platforms.push(format!("manylinux2014_{architecture}"));
        Self {
            name: "libtorch-2.13.0-cu130",
            linked: "torch",
            wheels,
            platforms,
            links_cpu: false,
        }
    }

    fn macos() -> Self {
        let takes = vec![
            Take {
                from: "torch/include/",
                to: "include/",
            },
            Take {
                from: "torch/lib/libtorch.dylib",
                to: "lib/libtorch.dylib",
            },
            Take {
                from: "torch/lib/libtorch_cpu.dylib",
                to: "lib/libtorch_cpu.dylib",
            },
            Take {
                from: "torch/lib/libc10.dylib",
                to: "lib/libc10.dylib",
            },
            Take {
                from: "torch/lib/libomp.dylib",
                to: "lib/libomp.dylib",
            },
        ];
        Self {
            name: "libtorch-2.13.0-cpu",
            linked: ".",
            wheels: vec![Wheel {
                project: "torch",
                version: VERSION,
                sha256: TORCH_MACOS,
                takes,
            }],
            platforms: vec!["macosx_14_0_arm64".to_string()],
            links_cpu: false,
        }
    }
}

fn wheel(&(project, version, sha256): &Pin, take: Take) -> Wheel {
    Wheel {
        project,
        version,
        sha256,
        takes: vec![take],
    }
}

/// Raised when the same wheels are laid out differently.
const LAYOUT: u32 = 1;

const TORCH_X86_64: &str = "60fcdcb2f3876e21146cb4524ef06397d727ca9ad5f020818547e25075fe3cb7";
const TORCH_AARCH64: &str = "092790c696a760c729fd5722835f50b9d81fd7c8f141571f3f3cf4081a8f664c";
const TORCH_MACOS: &str = "e76f9bcecc52b8ff711239a2f7547d5353df95878ab232f0773c1d95928b92f8";

const LIBRARIES_X86_64: &[Take] = &[
    Take {
        from: "torch/lib/libtorch_cpu.so",
        to: "lib/libtorch_cpu.so",
    },
    Take {
        from: "torch/lib/libc10.so",
        to: "lib/libc10.so",
    },
    Take {
        from: "torch/lib/libgomp.so.1",
        to: "lib/libgomp.so.1",
    },
];

/// The same, and the numerical libraries that this build is linked with. Inspected, not run.
const LIBRARIES_AARCH64: &[Take] = &[
    Take {
        from: "torch/lib/libtorch_cpu.so",
        to: "lib/libtorch_cpu.so",
    },
    Take {
        from: "torch/lib/libc10.so",
        to: "lib/libc10.so",
    },
    Take {
        from: "torch/lib/libgomp.so.1",
        to: "lib/libgomp.so.1",
    },
    Take {
        from: "torch/lib/libarm_compute.so",
        to: "lib/libarm_compute.so",
    },
    Take {
        from: "torch/lib/libarm_compute_graph.so",
        to: "lib/libarm_compute_graph.so",
    },
    Take {
        from: "torch/lib/libgfortran.so.5",
        to: "lib/libgfortran.so.5",
    },
    Take {
        from: "torch/lib/libnvpl_lapack_lp64_gomp.so.0",
        to: "lib/libnvpl_lapack_lp64_gomp.so.0",
    },
    Take {
        from: "torch/lib/libnvpl_blas_lp64_gomp.so.0",
        to: "lib/libnvpl_blas_lp64_gomp.so.0",
    },
    Take {
        from: "torch/lib/libnvpl_lapack_core.so.0",
        to: "lib/libnvpl_lapack_core.so.0",
    },
    Take {
        from: "torch/lib/libnvpl_blas_core.so.0",
        to: "lib/libnvpl_blas_core.so.0",
    },
];

/// Project, version, SHA-256.
type Pin = (&'static str, &'static str, &'static str);

/// What the torch wheel asks for; the CPU layout needs the first two only, in this order.
#[rustfmt::skip]
const NVIDIA_X86_64: [Pin; 15] = [
    ("nvidia-cuda-runtime", "13.0.96", "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548"),
    ("nvidia-cuda-cupti", "13.0.85", "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8"),
    ("nvidia-cublas", "13.1.1.3", "37936a16db8fe4ac1f065c2139360608a543a09275cb1a1af612e08cfa065436"),
    ("nvidia-cuda-nvrtc", "13.0.88", "ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575"),
    ("nvidia-cudnn-cu13", "9.20.0.48", "0c45dd8eeb50b603f07995b1b300c62ffe6a1980482b82b3bcf94a4ca9d49304"),
    ("nvidia-cufft", "12.0.0.61", "6c44f692dce8fd5ffd3e3df134b6cdb9c2f72d99cf40b62c32dde45eea9ddad3"),
    ("nvidia-cufile", "1.15.1.6", "08a3ecefae5a01c7f5117351c64f17c7c62efa5fffdbe24fc7d298da19cd0b44"),
    ("nvidia-curand", "10.4.0.35", "1aee33a5da6e1db083fe2b90082def8915f30f3248d5896bcec36a579d941bfc"),
    ("nvidia-cusolver", "12.0.4.66", "0a759da5dea5c0ea10fd307de75cdeb59e7ea4fcb8add0924859b944babf1112"),
    ("nvidia-cusparse", "12.6.3.3", "2b3c89c88d01ee0e477cb7f82ef60a11a4bcd57b6b87c33f789350b59759360b"),
    ("nvidia-cusparselt-cu13", "0.8.1", "786ce87568c303fadb5afcc7102d454cd3040d75f6f8626f5db460d1871f4dd0"),
    ("nvidia-nccl-cu13", "2.29.7", "edd81538446786ec3b73972543e53bb43bcaf0bfc8ef76cb679fcc390ffe136d"),
    ("nvidia-nvjitlink", "13.5.37", "280d7cb9649704145f074b8dbde500de04ce02d0872e066e20a83c17bcaa93eb"),
    ("nvidia-nvshmem-cu13", "3.4.5", "290f0a2ee94c9f3687a02502f3b9299a9f9fe826e6d0287ee18482e78d495b80"),
    ("nvidia-nvtx", "13.0.85", "4936d1d6780fbe68db454f5e72a42ff64d1fd6397df9f363ae786930fd5c1cd4"),
];

#[rustfmt::skip]
const NVIDIA_AARCH64: [Pin; 15] = [
    ("nvidia-cuda-runtime", "13.0.96", "ef9bcbe90493a2b9d810e43d249adb3d02e98dd30200d86607d8d02687c43f55"),
    ("nvidia-cuda-cupti", "13.0.85", "796bd679890ee55fb14a94629b698b6db54bcfd833d391d5e94017dd9d7d3151"),
    ("nvidia-cublas", "13.1.1.3", "b7a210458267ac818974c53038fbec2e969d5c99f305ab15c72522fa9f001dd5"),
    ("nvidia-cuda-nvrtc", "13.0.88", "d27f20a0ca67a4bb34268a5e951033496c5b74870b868bacd046b1b8e0c3267b"),
    ("nvidia-cudnn-cu13", "9.20.0.48", "e31454ae00094b0c55319d9d15b6fa2fc50a9e1c0f5c8c80fb75258234e731e1"),
    ("nvidia-cufft", "12.0.0.61", "2708c852ef8cd89d1d2068bdbece0aa188813a0c934db3779b9b1faa8442e5f5"),
    ("nvidia-cufile", "1.15.1.6", "bdc0deedc61f548bddf7733bdc216456c2fdb101d020e1ab4b88d232d5e2f6d1"),
    ("nvidia-curand", "10.4.0.35", "133df5a7509c3e292aaa2b477afd0194f06ce4ea24d714d616ff36439cee349a"),
    ("nvidia-cusolver", "12.0.4.66", "02c2457eaa9e39de20f880f4bd8820e6a1cfb9f9a34f820eb12a155aa5bc92d2"),
    ("nvidia-cusparse", "12.6.3.3", "80bcc4662f23f1054ee334a15c72b8940402975e0eab63178fc7e670aa59472c"),
    ("nvidia-cusparselt-cu13", "0.8.1", "4dca476c50bf4780d46cd0bfbd82e2bc10a08e4fef7950917ce8d7578d22a23f"),
    ("nvidia-nccl-cu13", "2.29.7", "674a12383e3c38a1bcccae7d4f3633b37852230b6047883cb2f4c2d1b36d9bf5"),
    ("nvidia-nvjitlink", "13.5.37", "893f6f9a55b2720ed94913b5ba3332e972da8c78dfa2863d0244403dbd528ffc"),
    ("nvidia-nvshmem-cu13", "3.4.5", "6dc2a197f38e5d0376ad52cd1a2a3617d3cdc150fd5966f4aee9bcebb1d68fe9"),
    ("nvidia-nvtx", "13.0.85", "cb7780edb6b14107373c835bf8b72e7a178bac7367e23da7acb108f973f157a6"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layout_is_pinned_and_its_paths_stay_inside() {
        for (flavour, system, architecture, wheels) in [
            (Flavour::Cpu, "linux", "x86_64", 3),
            (Flavour::Cpu, "linux", "aarch64", 3),
            (Flavour::Cpu, "macos", "aarch64", 1),
            (Flavour::Cuda, "linux", "x86_64", 16),
            (Flavour::Cuda, "linux", "aarch64", 16),
        ] {
            let layout = Layout::of(flavour, system, architecture).unwrap();
            assert_eq!(layout.wheels.len(), wheels, "{system} {architecture}");
            assert!(layout.name.contains(VERSION));
            for wheel in &layout.wheels {
                assert!(wheel.sha256.len() == 64 && wheel.sha256.bytes().all(|byte| byte.is_ascii_hexdigit()));
                for take in &wheel.takes {
                    assert!(!take.to.starts_with('/') && !take.to.contains(".."));
                    assert_eq!(take.from.ends_with('/'), take.to.ends_with('/'), "{}", take.from);
                }
            }
        }
    }

    #[test]
    fn the_cpu_layout_takes_the_two_libraries_that_libtorch_cpu_names() {
        let layout = Layout::of(Flavour::Cpu, "linux", "x86_64").unwrap();
        let takes: Vec<_> = layout.wheels[1..]
            .iter()
            .map(|wheel| (wheel.project, wheel.takes[0].to))
            .collect();
        let expected = [
            ("nvidia-cuda-runtime", "lib/libcudart.so.13"),
            ("nvidia-cuda-cupti", "lib/libcupti.so.13"),
        ];
        assert_eq!(takes, expected);
    }

    #[test]
    fn the_linked_folder_is_the_whole_or_a_part() {
        let linked = |flavour| Layout::of(flavour, "linux", "x86_64").unwrap().linked(Path::new("/c"));
        assert_eq!(linked(Flavour::Cpu).as_os_str(), "/c");
        assert_eq!(linked(Flavour::Cuda).as_os_str(), "/c/torch");
    }

    #[test]
    fn stamps_tell_layouts_apart() {
        let stamp = |flavour, architecture| Layout::of(flavour, "linux", architecture).unwrap().stamp();
        assert_ne!(stamp(Flavour::Cpu, "x86_64"), stamp(Flavour::Cpu, "aarch64"));
        assert_ne!(stamp(Flavour::Cpu, "x86_64"), stamp(Flavour::Cuda, "x86_64"));
    }

    #[test]
    fn a_platform_without_a_package_is_told_the_way_out() {
        let message = Layout::of(Flavour::Cpu, "musl", "x86_64").err().unwrap().to_string();
        assert!(message.contains("set LIBTORCH"), "{message}");
        assert!(
            Layout::of(Flavour::Cuda, "macos", "aarch64")
                .err()
                .unwrap()
                .to_string()
                .contains("no CUDA build")
        );
    }
}
