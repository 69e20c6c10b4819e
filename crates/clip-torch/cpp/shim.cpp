// Operators of libtorch that tch does not bind, behind a C surface. Includes single operators' headers only: all of ATen
// would take a minute to compile. Every function catches what libtorch throws and hands its message over.

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/aminmax.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <c10/core/GradMode.h>
#include <c10/util/Exception.h>
#include <torch/version.h>

#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace {

thread_local std::string message;

// Runs `body`; 0 where it went well, 1 where it threw and `message` says what.
template <typename Body>
int caught(Body body) {
  try {
    body();
    return 0;
  } catch (const c10::Error& error) {
    message = error.what_without_backtrace();
  } catch (const std::exception& error) {
    message = error.what();
  } catch (...) {
    message = "an exception of unknown type";
  }
  return 1;
}

std::vector<at::Tensor> list(const at::Tensor* const* tensors, std::size_t count) {
  std::vector<at::Tensor> result;
  result.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    result.push_back(*tensors[i]);
  }
  return result;
}

// The operators below are registered by name alone: no header declares them, and a libtorch without oneDNN lacks them.
// Their schemas are libtorch 2.13's; `typed` throws where they are others.

using Scalars = c10::List<std::optional<at::Scalar>>;

std::optional<c10::OperatorHandle> operation(const char* name, const char* overload) {
  return c10::Dispatcher::singleton().findSchema({name, overload});
}

c10::OperatorHandle needed(const char* name, const char* overload) {
  auto found = operation(name, overload);
  TORCH_CHECK(found, "this libtorch has no operator ", name);
  return *found;
}

// What is applied to a product, as `Post` of linear.rs numbers it.
struct Applied {
  std::string_view name;
  std::string_view algorithm;
};

Applied applied(int post) {
  static constexpr Applied known[] = {{"none", ""}, {"gelu", "none"}, {"gelu", "tanh"}, {"swish", ""}, {"relu", ""}};
  return known[post];
}

std::optional<at::Tensor> optional(const at::Tensor* tensor) {
  return tensor == nullptr ? std::nullopt : std::optional<at::Tensor>(*tensor);
}

// Compiled once for each width of vectors, chosen when the program is loaded, where the compiler can.
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#define FOR_EACH_PROCESSOR __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define FOR_EACH_PROCESSOR
#endif

// `round(scaled) + zero`, clamped to 0 to 255; what is no number becomes 0. libtorch's own operator does the same and warns
// each user that it is deprecated.
inline std::uint8_t to_byte(float scaled, float zero) {
  float value = scaled + (zero + 0.5f);
  value = value > 0.0f ? value : 0.0f;
  value = value < 255.0f ? value : 255.0f;
  return static_cast<std::uint8_t>(static_cast<std::int32_t>(value));
}

FOR_EACH_PROCESSOR
void to_bytes(const float* x, std::uint8_t* y, std::int64_t count, float inverse, float zero) {
  for (std::int64_t i = 0; i < count; ++i) {
    y[i] = to_byte(x[i] * inverse, zero);
  }
}

// The same of a row whose columns have factors of their own.
FOR_EACH_PROCESSOR
void row_to_bytes(
    const float* x, const float* factors, std::uint8_t* y, std::int64_t count, float inverse, float zero) {
  for (std::int64_t i = 0; i < count; ++i) {
    y[i] = to_byte(x[i] * factors[i] * inverse, zero);
  }
}

}  // namespace

extern "C" {

// What the last failed call of this thread said; valid until its next failure.
const char* clip_torch_message() { return message.c_str(); }

// The version of libtorch that this was compiled against.
const char* clip_torch_version() { return TORCH_VERSION; }

// One AdamW step over `count` tensors each of five lists.
int clip_torch_fused_adamw(
    const at::Tensor* const* parameters,
    const at::Tensor* const* gradients,
    const at::Tensor* const* averages,
    const at::Tensor* const* squares,
    const at::Tensor* const* steps,
    std::size_t count,
    double lr,
    double beta1,
    double beta2,
    double weight_decay,
    double eps) {
  return caught([&] {
    c10::NoGradGuard no_grad;
    at::_fused_adamw_(
        list(parameters, count),
        list(gradients, count),
        list(averages, count),
        list(squares, count),
        /*max_exp_avg_sqs=*/{},
        list(steps, count),
        lr,
        beta1,
        beta2,
        weight_decay,
        eps,
        /*amsgrad=*/false,
        /*maximize=*/false);
  });
}

// Lets go of the gradients of `count` tensors, so that their memory is free and the next backward pass need not add.
int clip_torch_clear_gradients(const at::Tensor* const* tensors, std::size_t count) {
  return caught([&] {
    for (std::size_t i = 0; i < count; ++i) {
      tensors[i]->mutable_grad().reset();
    }
  });
}

// A contiguous CPU tensor over foreign memory. `drop(owner)` is called exactly once: when libtorch frees the storage, or
// before this returns where it throws.
int clip_torch_over(
    void* data,
    const int64_t* shape,
    std::size_t dimensions,
    int kind,
    void* owner,
    void (*drop)(void*),
    at::Tensor** result) {
  return caught([&] {
    // The deleter does nothing itself: destroying its capture is what lets go of the owner, whoever destroys it.
    std::shared_ptr<void> held(owner, drop);
    auto options = at::TensorOptions().dtype(static_cast<at::ScalarType>(kind));
    auto tensor = at::from_blob(
        data, at::IntArrayRef(shape, dimensions), [held](void*) {}, options);
    *result = new at::Tensor(std::move(tensor));
  });
}

// Whether this libtorch has the packed products (0) and the quantised ones (1).
int clip_torch_has_products(int quantised) {
  return quantised == 0 ? operation("mkldnn::_reorder_linear_weight", "") &&
          operation("mkldnn::_linear_pointwise", "") && operation("mkldnn::_linear_pointwise", "binary")
                        : operation("onednn::qlinear_prepack", "") && operation("onednn::qlinear_pointwise", "") &&
          operation("onednn::qlinear_pointwise", "binary");
}

// A matrix `[output, input]`, f32 or bf16, in the layout that oneDNN multiplies with.
int clip_torch_pack(const at::Tensor* weight, at::Tensor** result) {
  return caught([&] {
    c10::NoGradGuard no_grad;
    static auto call = needed("mkldnn::_reorder_linear_weight", "")
                           .typed<at::Tensor(const at::Tensor&, std::optional<int64_t>)>();
    *result = new at::Tensor(call.call(*weight, std::nullopt));
  });
}

// `post(x Wᵀ + bias)` over a packed matrix, or `x Wᵀ + bias + other` where there is another.
int clip_torch_packed_linear(
    const at::Tensor* x,
    const at::Tensor* weight,
    const at::Tensor* bias,
    const at::Tensor* other,
    int post,
    at::Tensor** result) {
  return caught([&] {
    c10::NoGradGuard no_grad;
    if (other != nullptr) {
      static auto call = needed("mkldnn::_linear_pointwise", "binary")
                             .typed<at::Tensor(
                                 const at::Tensor&,
                                 const at::Tensor&,
                                 const at::Tensor&,
                                 const std::optional<at::Tensor>&,
                                 std::string_view)>();
      *result = new at::Tensor(call.call(*x, *other, *weight, optional(bias), "add"));
      return;
    }
    static auto call = needed("mkldnn::_linear_pointwise", "")
                           .typed<at::Tensor(
                               const at::Tensor&,
                               const at::Tensor&,
                               const std::optional<at::Tensor>&,
                               std::string_view,
                               Scalars,
                               std::optional<std::string_view>)>();
    auto [name, algorithm] = applied(post);
    *result = new at::Tensor(call.call(*x, *weight, optional(bias), name, Scalars(), algorithm));
  });
}

// The least and the greatest value of a tensor.
int clip_torch_range(const at::Tensor* x, double* least, double* greatest) {
  return caught([&] {
    c10::NoGradGuard no_grad;
    auto [low, high] = at::aminmax(*x);
    *least = low.item<double>();
    *greatest = high.item<double>();
  });
}

// A contiguous f32 tensor to bytes: `round(x / scale) + zero`, clamped to 0 to 255. Where there are factors, contiguous f32
// and one a column, `x` is multiplied by them in the same pass.
int clip_torch_quantise(
    const at::Tensor* x, const at::Tensor* factors, double scale, int64_t zero, at::Tensor** result) {
  return caught([&] {
    constexpr std::int64_t a_threads_least = 1 << 15;
    const float inverse = static_cast<float>(1.0 / scale);
    const float middle = static_cast<float>(zero);
    c10::NoGradGuard no_grad;
    at::Tensor bytes = at::empty(x->sizes(), x->options().dtype(at::kByte));
    const float* from = x->const_data_ptr<float>();
    std::uint8_t* to = bytes.mutable_data_ptr<std::uint8_t>();
    if (factors == nullptr) {
      at::parallel_for(0, x->numel(), a_threads_least, [&](std::int64_t begin, std::int64_t end) {
        to_bytes(from + begin, to + begin, end - begin, inverse, middle);
      });
    } else {
      const std::int64_t columns = factors->numel();
      const float* by = factors->const_data_ptr<float>();
      at::parallel_for(0, x->numel() / columns, a_threads_least / columns + 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t row = begin; row < end; ++row) {
          row_to_bytes(from + row * columns, by, to + row * columns, columns, inverse, middle);
        }
      });
    }
    *result = new at::Tensor(std::move(bytes));
  });
}

// A matrix `[output, input]` of i8 in the layout that oneDNN multiplies bytes with.
int clip_torch_pack_quantised(const at::Tensor* weight, at::Tensor** result) {
  return caught([&] {
    c10::NoGradGuard no_grad;
    static auto call = needed("onednn::qlinear_prepack", "")
                           .typed<at::Tensor(at::Tensor, std::optional<c10::List<int64_t>>)>();
    *result = new at::Tensor(call.call(*weight, std::nullopt));
  });
}

// `post(scale (x - zero) diag(weight_scales) Wᵀ + bias)` over bytes `x` and a packed i8 matrix, to f32 (`kind` 6)
// or, with their own scale and zero, bytes (0). Where there is an `other`, f32, it is added, and the result is f32.
int clip_torch_quantised_linear(
    const at::Tensor* x,
    double scale,
    int64_t zero,
    const at::Tensor* weight,
    const at::Tensor* weight_scales,
    const at::Tensor* weight_zeros,
    const at::Tensor* bias,
    const at::Tensor* other,
    double output_scale,
    int64_t output_zero,
    int kind,
    int post,
    at::Tensor** result) {
  return caught([&] {
    c10::NoGradGuard no_grad;
    if (other != nullptr) {
      static auto call = needed("onednn::qlinear_pointwise", "binary")
                             .typed<at::Tensor(
                                 at::Tensor,
                                 double,
                                 int64_t,
                                 at::Tensor,
                                 at::Tensor,
                                 at::Tensor,
                                 std::optional<at::Tensor>,
                                 std::optional<at::Tensor>,
                                 double,
                                 int64_t,
                                 std::optional<at::ScalarType>,
                                 double,
                                 int64_t,
                                 std::string_view,
                                 double,
                                 std::string_view,
                                 Scalars,
                                 std::string_view)>();
      *result = new at::Tensor(call.call(
          *x,
          scale,
          zero,
          *weight,
          *weight_scales,
          *weight_zeros,
          *other,
          optional(bias),
          /*output_scale=*/1.0,
          /*output_zero_point=*/0,
          at::kFloat,
          /*other_scale=*/1.0,
          /*other_zero_point=*/0,
          "add",
          /*alpha=*/1.0,
          "none",
          Scalars(),
          ""));
      return;
    }
    static auto call = needed("onednn::qlinear_pointwise", "")
                           .typed<at::Tensor(
                               at::Tensor,
                               double,
                               int64_t,
                               at::Tensor,
                               at::Tensor,
                               at::Tensor,
                               std::optional<at::Tensor>,
                               double,
                               int64_t,
                               std::optional<at::ScalarType>,
                               std::string_view,
                               Scalars,
                               std::string_view)>();
    auto [name, algorithm] = applied(post);
    *result = new at::Tensor(call.call(
        *x,
        scale,
        zero,
        *weight,
        *weight_scales,
        *weight_zeros,
        optional(bias),
        output_scale,
        output_zero,
        static_cast<at::ScalarType>(kind),
        name,
        Scalars(),
        algorithm));
  });
}

}
