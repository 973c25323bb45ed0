// A text with line numbers, and the assembler's errors at their lines.

import { find, h } from "./dom";
import type { Diagnostic } from "./protocol";

/** Height of a line, as in the style sheet. */
const LINE = 18;

export class Editor {
  readonly area = find<HTMLTextAreaElement>("text");
  private readonly gutter = find("gutter");
  private readonly marks = find("marks");
  private readonly faults = find("faults");
  private lines = 0;

  constructor(changed: () => void) {
    this.area.addEventListener("input", () => {
      this.number();
      changed();
    });
    this.area.addEventListener("scroll", () => this.scroll());
    this.area.addEventListener("keydown", (event) => {
      // Escape leaves the text, so that Tab need not be kept for leaving.
      if (event.key === "Escape") this.area.blur();
    });
  }

  get text(): string {
    return this.area.value;
  }

  set text(text: string) {
    this.area.value = text;
    this.area.scrollTop = 0;
    this.lines = 0;
    this.number();
  }

  private number(): void {
    const lines = this.area.value.split("\n").length;
    if (lines === this.lines) return;
    this.lines = lines;
    this.gutter.textContent = Array.from({ length: lines }, (_, index) => index + 1).join("\n");
    this.scroll();
  }

  private scroll(): void {
    this.gutter.style.transform = `translateY(${-this.area.scrollTop}px)`;
    this.marks.style.transform = `translate(${-this.area.scrollLeft}px, ${-this.area.scrollTop}px)`;
  }

  /** Shows errors at their lines, and as a list. */
  show(diagnostics: Diagnostic[], summary: string): void {
    const lines = this.area.value.split("\n");
    this.marks.replaceChildren(
      ...diagnostics.map((of) => {
        const before = (lines[of.line - 1] ?? "").slice(0, of.column - 1);
        const mark = h("span", { class: "mark" }, "\u00a0".repeat(of.length));
        const line = h("div", { class: "bad" }, h("span", { class: "skip" }, before), mark, h("span", { class: "hint" }, ` ${of.message}`));
        line.style.top = `${(of.line - 1) * LINE}px`;
        return line;
      }),
    );
    this.area.setAttribute("aria-invalid", String(diagnostics.length > 0));
    this.faults.replaceChildren(
      h("p", { class: diagnostics.length > 0 ? "error" : "ok" }, summary),
      ...diagnostics.map((of) => {
        const place = `${of.line}:${of.column}`;
        const button = h("button", { type: "button", class: "link", click: () => this.jump(of) }, `Line ${place}`);
        return h("div", { class: "fault" }, button, ` ${of.message}`, ...(of.help ? [h("small", {}, ` Help: ${of.help}`)] : []));
      }),
    );
  }

  private jump(of: Diagnostic): void {
    const lines = this.area.value.split("\n");
    const start = lines.slice(0, of.line - 1).reduce((sum, line) => sum + line.length + 1, 0) + of.column - 1;
    this.area.focus();
    this.area.setSelectionRange(start, start + of.length);
    this.area.scrollTop = Math.max(0, (of.line - 4) * LINE);
  }
}
