// How these programs are spoken to: one JSON object a line, commands on standard input and events on standard output.
// A program ends when its input does, so that nothing outlives the test that started it.
import { createInterface } from "node:readline";

/** Tells the test something. */
export function say(event) {
  process.stdout.write(JSON.stringify(event) + "\n");
}

/**
 * Carries out commands as they come, each without waiting for the one before; what goes wrong is told as an `error`
 * with the command's `peer` and `key`. Returns when there will be no more commands.
 */
export async function obey(carryOut) {
  for await (const line of createInterface({ input: process.stdin })) {
    const command = JSON.parse(line);
    if (command.do === "quit") return;
    const { peer, key } = command;
    Promise.resolve(carryOut(command)).catch((e) => say({ event: "error", peer, key, message: String(e?.stack ?? e) }));
  }
}
