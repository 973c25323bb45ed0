// The native command, and pages that it makes.

import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = join(dirname(fileURLToPath(import.meta.url)), "../../..");
export const folder = join(root, "target/page");
mkdirSync(folder, { recursive: true });

const binary = process.env.POLLUX ?? join(root, "target/debug/pollux");

export function pollux(...words) {
  return execFileSync(binary, words, { cwd: root, encoding: "utf8", maxBuffer: 1 << 28, stdio: ["ignore", "pipe", "pipe"] });
}

/** What the native command answers to the lines of a script. */
export function script(program, lines, options = []) {
  const path = join(folder, "steps");
  writeFileSync(path, `${lines.join("\n")}\n`);
  return JSON.parse(pollux("debug", program, "--script", path, "--json", ...options)).results.map(({ line, ...result }) => result);
}

/** A page in a file, and its address. */
export function page(name, program, ...options) {
  const path = join(folder, `${name}.html`);
  pollux("page", program, "-o", path, ...options);
  return path;
}

export const text = (path) => readFileSync(join(root, path), "utf8");
