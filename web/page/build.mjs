// `node build.mjs MODULE-FOLDER DIGEST OUT.html`: puts emulator, script and style into one file.

import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { execFileSync } from "node:child_process";
import { gzipSync } from "node:zlib";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const [folder, sources, out] = process.argv.slice(2);
if (!folder || !sources || !out) throw new Error("usage: node build.mjs MODULE-FOLDER DIGEST OUT.html");

/** A script without anything that would end the element that it stands in. */
async function script(name) {
  const result = await build({
    entryPoints: [join(here, "src", name)],
    bundle: true,
    minify: true,
    write: false,
    format: "iife",
    target: "es2022",
    charset: "utf8",
    legalComments: "none",
    alias: { emulator: resolve(folder, "emulator.js") },
    // The module is handed to the worker; it never looks for it beside itself.
    define: { "import.meta.url": '""' },
  });
  return result.outputFiles[0].text.replaceAll("</script", "<\\/script").replaceAll("<!--", "<\\!--").trim();
}

/** The module, smaller. It takes minutes, so that what was made before is taken again. */
function optimised(path) {
  const result = path.replace(/\.wasm$/, ".small.wasm");
  if (existsSync(result) && statSync(result).mtimeMs > statSync(path).mtimeMs) return readFileSync(result);
  const features = ["bulk-memory", "bulk-memory-opt", "call-indirect-overlong", "multivalue", "mutable-globals",
    "nontrapping-float-to-int", "reference-types", "sign-ext"];
  const options = ["-Oz", ...features.map((feature) => `--enable-${feature}`), "-o", result];
  execFileSync(join(here, "node_modules/.bin/wasm-opt"), [path, ...options], { stdio: ["ignore", "inherit", "inherit"] });
  return readFileSync(result);
}

const version = /^version = "(.*)"$/m.exec(readFileSync(join(here, "../Cargo.toml"), "utf8"))[1];
const style = await build({ entryPoints: [join(here, "src/style.css")], minify: true, write: false });
const plain = readFileSync(join(folder, "emulator_bg.wasm"));
const module = optimised(join(folder, "emulator_bg.wasm"));
const parts = {
  version,
  sources,
  style: style.outputFiles[0].text.trim(),
  module: gzipSync(module, { level: 9 }).toString("base64"),
  worker: await script("worker.ts"),
  script: await script("main.ts"),
};
const template = readFileSync(join(here, "src/page.html"), "utf8");
const page = template.replaceAll(/\{\{(\w+)\}\}/g, (place, name) => parts[name] ?? place);
mkdirSync(dirname(out), { recursive: true });
writeFileSync(out, page);
console.log(`module ${plain.length} bytes, optimised ${module.length}, packed ${(parts.module.length * 3) / 4 | 0}; page ${page.length} bytes`);
