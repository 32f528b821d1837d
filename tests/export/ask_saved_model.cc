// Loads a SavedModel as TensorFlow Serving does, with TensorFlow's own kernels and those of the libraries named and no
// Python at all, and answers lines of text.
//
//   ask_saved_model FOLDER SIGNATURE [LIBRARY.so ...] < lines > answers
//
// Each answer is a line: the text, a tab, the score.

#include <iomanip>
#include <iostream>
#include <string>
#include <vector>

#include "tensorflow/cc/saved_model/loader.h"
#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/core/platform/env.h"

namespace {

int Fail(const std::string& what, const absl::Status& status) {
  std::cerr << what << ": " << status.ToString() << "\n";
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "usage: ask_saved_model FOLDER SIGNATURE [LIBRARY.so ...] < lines\n";
    return 2;
  }
  for (int place = 3; place < argc; ++place) {
    void* handle = nullptr;
    absl::Status status = tensorflow::Env::Default()->LoadDynamicLibrary(argv[place], &handle);
    if (!status.ok()) return Fail(argv[place], status);
  }

  tensorflow::SavedModelBundle bundle;
  absl::Status status = tensorflow::LoadSavedModel(
      tensorflow::SessionOptions(), tensorflow::RunOptions(), argv[1], {"serve"}, &bundle);
  if (!status.ok()) return Fail(argv[1], status);
  const auto& signatures = bundle.meta_graph_def.signature_def();
  const auto found = signatures.find(argv[2]);
  if (found == signatures.end()) {
    std::cerr << argv[1] << ": has no signature " << argv[2] << "\n";
    return 1;
  }

  std::vector<std::string> lines;
  for (std::string line; std::getline(std::cin, line);) lines.push_back(line);
  tensorflow::Tensor text(tensorflow::DT_STRING, {static_cast<int64_t>(lines.size())});
  for (size_t row = 0; row < lines.size(); ++row) text.flat<tensorflow::tstring>()(row) = lines[row];

  std::vector<tensorflow::Tensor> outputs;
  status = bundle.GetSession()->Run({{found->second.inputs().at("text").name(), text}},
                                    {found->second.outputs().at("text").name(),
                                     found->second.outputs().at("score").name()},
                                    {}, &outputs);
  if (!status.ok()) return Fail("the model fails", status);
  std::cout << std::setprecision(9);
  for (size_t row = 0; row < lines.size(); ++row) {
    std::cout << outputs[0].flat<tensorflow::tstring>()(row) << "\t" << outputs[1].flat<float>()(row) << "\n";
  }
  return 0;
}
