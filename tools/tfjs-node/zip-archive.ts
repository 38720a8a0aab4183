import { deflateRawSync } from 'node:zlib';

/** A file to be packed. */
export interface Packed {
  readonly name: string;
  readonly content: Buffer;
  /** 8: deflated, 0: as it is. */
  readonly method: number;
}

/** A zip file, for tests: as a wheel has it, without checksums of its files. */
export function zipArchive(files: readonly Packed[]): Buffer {
  const locals: Buffer[] = [];
  const centrals: Buffer[] = [];
  let offset = 0;
  for (const { name, content, method } of files) {
    const packed = method === 8 ? deflateRawSync(content) : content;
    const [extra, label] = [Buffer.from('extra'), Buffer.from(name)];
    const local = Buffer.concat([header(30, { 8: method, 26: label.length, 28: extra.length }), label, extra, packed]);
    const central = header(46, { 10: method, 28: label.length }, { 20: packed.length, 24: content.length, 42: offset });
    central.writeUInt32LE(0x02014b50);
    centrals.push(central, label);
    locals.push(local);
    offset += local.length;
  }
  const directory = Buffer.concat(centrals);
  const end = header(22, {}, { 0: 0x06054b50, 12: directory.length, 16: offset });
  return Buffer.concat([...locals, directory, end]);
}

/** Bytes with numbers of 16 and 32 bits at the places that are their keys. */
function header(bytes: number, shorts: Record<number, number>, longs: Record<number, number> = {}): Buffer {
  const buffer = Buffer.alloc(bytes);
  for (const [at, value] of Object.entries(shorts)) buffer.writeUInt16LE(value, Number(at));
  for (const [at, value] of Object.entries(longs)) buffer.writeUInt32LE(value, Number(at));
  return buffer;
}
