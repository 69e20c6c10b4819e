// Operators of libtorch that tch does not bind, behind a C surface. Includes single operators' headers only: all of ATen
// would take a minute to compile. Every function catches what libtorch throws and hands its message over.

#include <ATen/core/Tensor.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/from_blob.h>
#include <c10/core/GradMode.h>
#include <c10/util/Exception.h>
#include <torch/version.h>

#include <cstdint>
#include <exception>
#include <memory>
#include <string>
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

}
