// `node web/page/tests/screenshots.mjs`: makes the pictures of page and terminal in docs/src. Takes `pollux` (POLLUX), tmux, and Chromium (POLLUX_CHROMIUM).

import { execFileSync } from "node:child_process";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "../../..");
const { chromium } = await import("playwright-core");
const pollux = process.env.POLLUX ?? join(root, "target/release/pollux");
const folder = mkdtempSync(join(tmpdir(), "pollux-pictures-"));
const run = (command, ...words) => execFileSync(command, words, { cwd: root, encoding: "utf8" });

/** What a terminal shows, with its colours, as HTML. */
function html(screen) {
  const basic = ["#1c2128", "#e5534b", "#57ab5a", "#c69026", "#539bf5", "#b083f0", "#39c5cf", "#adbac7"];
  const bright = ["#768390", "#ff938a", "#6bc46d", "#daaa3f", "#6cb6ff", "#dcbdfb", "#56d4dd", "#ffffff"];
  const of256 = (n) => {
    if (n < 16) return (n < 8 ? basic : bright)[n % 8];
    if (n > 231) return `rgb(${Array(3).fill(8 + 10 * (n - 232))})`;
    const part = (x) => (x === 0 ? 0 : 55 + 40 * x);
    return `rgb(${[Math.floor((n - 16) / 36), Math.floor((n - 16) / 6) % 6, (n - 16) % 6].map(part)})`;
  };
  let style = {};
  const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
  const css = () => {
    const [front, back] = style.reverse ? [style.back ?? "#1c2128", style.front ?? "#adbac7"] : [style.front, style.back];
    return `${front ? `color:${front};` : ""}${back ? `background:${back};` : ""}${style.bold ? "font-weight:700;" : ""}${style.dim ? "opacity:.6;" : ""}`;
  };
  const set = (codes) => {
    for (let i = 0; i < codes.length; i++) {
      const code = codes[i];
      const colour = () => (codes[i + 1] === 5 ? of256(codes[(i += 2)]) : `rgb(${codes.slice(i + 2, (i += 4) + 1)})`);
      if (code === 0) style = {};
      else if (code === 1) style.bold = true;
      else if (code === 2) style.dim = true;
      else if (code === 7) style.reverse = true;
      else if (code === 22) style.bold = style.dim = false;
      else if (code === 27) style.reverse = false;
      else if (code === 38) style.front = colour();
      else if (code === 48) style.back = colour();
      else if (code === 39) delete style.front;
      else if (code === 49) delete style.back;
      else if (code >= 30 && code < 38) style.front = basic[code - 30];
      else if (code >= 40 && code < 48) style.back = basic[code - 40];
      else if (code >= 90 && code < 98) style.front = bright[code - 90];
      else if (code >= 100 && code < 108) style.back = bright[code - 100];
    }
  };
  const body = screen
    .split(/(\x1b\[[0-9;]*m)/)
    .map((part) => {
      const codes = /^\x1b\[([0-9;]*)m$/.exec(part);
      if (!codes) return part.replace(/[^\n]+/g, (text) => `<span style="${css()}">${escaped(text)}</span>`);
      set(codes[1].split(";").map(Number));
      return "";
    })
    .join("");
  return `<meta charset="utf-8"><body style="margin:0"><pre style="margin:0;padding:8px;display:inline-block;background:#1c2128;color:#adbac7;font:13px/1.2 'DejaVu Sans Mono',monospace">${body}</pre>`;
}

async function terminal(browser) {
  const name = `pollux-picture-${process.pid}`;
  run("tmux", "-L", name, "new-session", "-d", "-x", "150", "-y", "44", `TERM=tmux-256color '${pollux}' debug programs/matmul_ws_tile.pasm --at 84`);
  const wait = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
  await wait(2);
  for (const key of [...Array(9).fill("Down"), "Enter"]) {
    run("tmux", "-L", name, "send-keys", key);
    await wait(0.3);
  }
  const screen = run("tmux", "-L", name, "capture-pane", "-e", "-p");
  run("tmux", "-L", name, "kill-server");
  const file = join(folder, "terminal.html");
  writeFileSync(file, html(screen));
  const page = await browser.newPage();
  await page.goto(pathToFileURL(file).href);
  await page.locator("pre").screenshot({ path: join(root, "docs/src/terminal.png") });
}

async function pictures(browser) {
  const file = join(folder, "demo.html");
  run(pollux, "page", "programs/matmul_ws_blocked.pasm", "-o", file, "--cycle", "230");
  for (const scheme of ["light", "dark"]) {
    const page = await browser.newPage({ colorScheme: scheme, viewport: { width: 1300, height: 900 } });
    await page.goto(pathToFileURL(file).href);
    await page.waitForSelector("html[data-ready=true]");
    await page.getByRole("button", { name: "Why is issue stores as it is?" }).click();
    await page.waitForSelector("#why ol li");
    await page.evaluate(() => document.activeElement.blur());
    await page.screenshot({ path: join(root, `docs/src/page-${scheme}.png`) });
  }
}

const browser = await chromium.launch({ executablePath: process.env.POLLUX_CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
await terminal(browser);
await pictures(browser);
await browser.close();
