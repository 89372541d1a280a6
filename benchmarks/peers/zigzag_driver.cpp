// Runs one zigzag through FastZigZag or GUDHI and times the solver alone.
//
// Neither library is part of this project: benchmarks/zigzag.py compiles this file against a checkout that the
// user names, with -DFASTZIGZAG or -DGUDHI.
//
// stdin:  one operation per line, "i T v0 v1 ..." or "d T v0 v1 ...": insertion or deletion of a simplex at
//         index T, faces first; vertices ascending.
// stdout: the solver's seconds, then one bar per line: dimension, birth, death (-1: never).

#include <chrono>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <tuple>
#include <vector>

#ifdef FASTZIGZAG
#include "fzz.h"
#else
#include <gudhi/filtered_zigzag_persistence.h>
#endif

using Clock = std::chrono::steady_clock;

int main() {
  std::vector<std::vector<int>> simplices;
  std::vector<bool> inserted;
  std::vector<int> times;
  std::string line;
  while (std::getline(std::cin, line)) {
    std::istringstream words(line);
    char operation;
    int time, vertex;
    words >> operation >> time;
    simplices.emplace_back();
    while (words >> vertex) simplices.back().push_back(vertex);
    inserted.push_back(operation == 'i');
    times.push_back(time);
  }
  std::vector<std::tuple<int, int, int>> bars;

#ifdef FASTZIGZAG
  std::vector<std::tuple<FZZ::Integer, FZZ::Integer, FZZ::Integer>> found;
  FZZ::FastZigzag solver;
  auto start = Clock::now();
  solver.compute(simplices, inserted, &found);
  auto stop = Clock::now();
  const int operations = static_cast<int>(times.size());
  for (const auto& [birth, death, dim] : found)  // alive after operations birth..death, counted from 1
    bars.emplace_back(dim, times[birth - 1], death == operations ? -1 : times[death]);
#else
  // GUDHI wants boundaries as numbers of earlier operations: name them before the clock starts.
  std::map<std::vector<int>, int> key;
  std::vector<std::vector<int>> boundaries(simplices.size());
  std::vector<int> removed(simplices.size());
  for (std::size_t at = 0; at < simplices.size(); ++at) {
    const auto& simplex = simplices[at];
    if (!inserted[at]) {
      removed[at] = key[simplex];
      continue;
    }
    key[simplex] = static_cast<int>(at);
    if (simplex.size() == 1) continue;
    for (std::size_t skip = 0; skip < simplex.size(); ++skip) {
      std::vector<int> face;
      for (std::size_t i = 0; i < simplex.size(); ++i)
        if (i != skip) face.push_back(simplex[i]);
      boundaries[at].push_back(key[face]);
    }
    std::sort(boundaries[at].begin(), boundaries[at].end());
  }
  using Zigzag = Gudhi::zigzag_persistence::Filtered_zigzag_persistence<>;
  auto start = Clock::now();
  Zigzag solver([&](auto dim, auto birth, auto death) {
    bars.emplace_back(dim, static_cast<int>(birth), static_cast<int>(death));
  });
  for (std::size_t at = 0; at < simplices.size(); ++at) {
    if (inserted[at])
      solver.insert_cell(at, boundaries[at], static_cast<int>(simplices[at].size()) - 1, times[at]);
    else
      solver.remove_cell(removed[at], times[at]);
  }
  solver.get_current_infinite_intervals(
      [&](auto dim, auto birth) { bars.emplace_back(dim, static_cast<int>(birth), -1); });
  auto stop = Clock::now();
#endif

  std::cout << std::chrono::duration<double>(stop - start).count() << '\n';
  for (const auto& [dim, birth, death] : bars)
    if (birth != death) std::cout << dim << ' ' << birth << ' ' << death << '\n';
}
