// The emulator of the page against the native one: cycles, views, searches and explanations, without a browser. What runs is the worker as
// it stands in a page.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import vm from "node:vm";
import { gunzipSync } from "node:zlib";
import { page, pollux, script } from "./pollux.mjs";

const element = (html, id) => new RegExp(`<script type="[^"]*" id="${id}">([\\s\\S]*?)</script>`).exec(html)[1];

/** The worker of a page, with the program loaded. */
function load(path) {
  const html = readFileSync(path, "utf8");
  const answers = [];
  const self = { postMessage: (message) => answers.push(message) };
  const context = vm.createContext({ self, WebAssembly, TextDecoder, TextEncoder, Uint8Array, URL, console, performance });
  vm.runInContext(element(html, "pollux-worker"), context);
  const data = JSON.parse(element(html, "pollux-page"));
  const module = new WebAssembly.Module(gunzipSync(Buffer.from(element(html, "pollux-module"), "base64")));
  const files = Object.entries(data.files).map(([name, contents]) => [name, new Uint8Array(Buffer.from(contents, "base64"))]);
  self.onmessage({ data: { start: { module, files } } });
  const ask = (request) => {
    self.onmessage({ data: { id: 0, request } });
    const { answer, crashed } = answers.pop();
    assert.equal(crashed, undefined);
    return JSON.parse(answer);
  };
  const { name, text, config, setup } = data;
  const loaded = ask({ do: "load", name, config, setup, ...(text === null ? {} : { text }) });
  assert.equal(loaded.error, undefined, JSON.stringify(loaded.error));
  return { ask, loaded, line: (line) => ask({ do: "line", text: line }) };
}

const native = (program, options) => JSON.parse(pollux("run", program, "--cycles", "--json", ...options));

pollux("lower", "matmul", "--m", "48", "--n", "40", "--k", "64", "-o", "target/page/matmul.pbin");
pollux("lower", "matmul", "--m", "24", "--n", "24", "--k", "24", "--config", "dim8", "-o", "target/page/dim8.pbin");
const CASES = [
  ["programs/matmul_ws_tile.pasm"],
  ["programs/matmul_os_tile.pasm", "--memory", "bench:latency=200"],
  ["programs/softmax.pasm", "--memory", "dram"],
  ["programs/matmul_ws_blocked.pasm", "--page-walk", "30"],
  ["programs/loop_ws_matmul.pasm", "--processor", "rocket", "--interval", "3"],
  ["programs/residual_add.pasm", "--memory", "l2"],
  ["target/page/matmul.pbin", "--memory", "bandwidth:latency=60,bytes=8"],
  ["target/page/dim8.pbin"],
];

for (const [program, ...options] of CASES) {
  test(`${program} ${options.join(" ")}: the cycles of the page are the native ones`, () => {
    const { ask } = load(page("cycles", program, ...options));
    const place = ask({ do: "advance", cycles: 1e9 });
    const expected = native(program, options);
    assert.equal(place.ended, true);
    assert.equal(place.totals.busy_falls, expected.cycles);
    assert.equal(place.totals.commands, expected.commands ?? place.totals.commands);
    const [end] = script(program, ["end"], options);
    assert.equal(place.cycle, end.cycle);
  });
}

test("views, arrays, searches and explanations are the native ones", () => {
  for (const program of ["programs/matmul_ws_tile.pasm", "programs/softmax.pasm", "target/page/matmul.pbin"]) {
    const lines = ["goto 57", "view", "view array", "why issue_executes", "until matrix", "view array", "step 9", "view array", "until completed store",
      "view", "why store_controller", "back 40", "view", "view acc[0..4]", "reverse-until issued load", "view spad[0..16]", "end", "view", "back 1", "view"];
    const { line } = load(page("views", program));
    const expected = script(program, lines);
    lines.forEach((text, index) => assert.deepEqual(line(text), expected[index], `${program}: ${text}`));
  }
});

test("faults are the native ones, with their places", () => {
  const { ask, line } = load(page("faults", "programs/matmul_ws_tile.pasm"));
  const { error } = ask({ do: "assemble", name: "t.pasm", text: "config small4\n\n  mvni x\n", config: "" });
  assert.deepEqual([error.diagnostics[0].line, error.diagnostics[0].column, error.diagnostics[0].length], [3, 3, 4]);
  assert.match(line("goto 99999999").error.message, /is behind the end of the run: it ends in cycle/);
  assert.match(line("fly").error.message, /this is no command: write one of goto/);
});
