import { Writable } from 'node:stream';

/** A stream without colours that records its input: a terminal with the given columns and rows, or a file. */
export function kept(isTTY: boolean, columns = 120, rows = 24) {
  let text = '';
  const stream = new Writable({
    write(chunk, _, done) {
      text += String(chunk);
      done();
    },
  });
  const terminal = { isTTY, columns, rows, hasColors: () => false };
  return { stream: Object.assign(stream, terminal) as unknown as NodeJS.WriteStream, text: () => text };
}
