import { printable } from './report/text.js';

/** Shows a warning to whoever runs the command. */
type ShowWarning = (message: string) => void;

let show: ShowWarning = (message) => {
  process.stderr.write(`peft-bench: ${message}\n`);
};

/** Shows a warning as the command shows them now: as a line of its own, or within its progress. */
export function showWarning(message: string): void {
  show(printable(message));
}

/**
 * Shows warnings otherwise from now on. Unlike a new handler of `onWarning`, which hears everything anew, it is not told what the
 * user has been told already. @returns what shows them as before
 */
export function showWarningsBy(shown: ShowWarning): () => void {
  const before = show;
  show = shown;
  return () => {
    show = before;
  };
}
