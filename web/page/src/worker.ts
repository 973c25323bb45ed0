// The emulator, away from the thread that draws.

import { Emulator, initSync } from "emulator";
import type { Request } from "./protocol";

interface Start {
  module: ArrayBuffer;
  files: [string, Uint8Array][];
}

type Message = { start: Start } | { id: number; request: Request };

let emulator: Emulator | undefined;

self.onmessage = ({ data }: MessageEvent<Message>): void => {
  if ("start" in data) {
    initSync({ module: data.start.module });
    emulator = new Emulator();
    for (const [path, contents] of data.start.files) emulator.file(path, contents);
    return;
  }
  try {
    self.postMessage({ id: data.id, answer: emulator?.request(JSON.stringify(data.request)) });
  } catch (error) {
    // A fault of the emulator itself: nothing can be asked for any more.
    self.postMessage({ id: data.id, crashed: String(error) });
  }
};
