import { createReadStream, createWriteStream } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { createInflateRaw } from 'node:zlib';
import { BuildError } from './build-error.js';

/* As much of the zip format as wheels have: no encryption, no second disk, less than 4 GiB. */

/** A file in an archive. */
export interface ZipEntry {
  readonly name: string;
  readonly isDeflated: boolean;
  readonly compressedBytes: number;
  readonly bytes: number;
  /** Of its local header. */
  readonly offset: number;
}

const END = 0x06054b50;
const END_BYTES = 22;
const LONGEST_COMMENT = 0xffff;
const CENTRAL = 0x02014b50;
const CENTRAL_BYTES = 46;
const LOCAL_BYTES = 30;
const STORED = 0;
const DEFLATED = 8;

/** The files in an archive. @throws BuildError when it is none, or of a kind that wheels are not. */
export async function zipEntries(archive: string): Promise<ZipEntry[]> {
  const file = await open(archive);
  try {
    return centralEntries(await centralDirectory(file, archive), archive);
  } finally {
    await file.close();
  }
}

async function centralDirectory(file: FileHandle, archive: string): Promise<Buffer> {
  const { size } = await file.stat();
  const tail = await read(file, Math.max(0, size - END_BYTES - LONGEST_COMMENT), size);
  let end = tail.length - END_BYTES;
  while (end >= 0 && tail.readUInt32LE(end) !== END) end--;
  if (end < 0) throw new BuildError('failed', `${archive} is no zip file`);
  const [bytes, offset] = [tail.readUInt32LE(end + 12), tail.readUInt32LE(end + 16)];
  if (offset + bytes > size) throw new BuildError('failed', `${archive} is a zip file cut short, or one beyond 4 GiB`);
  return read(file, offset, offset + bytes);
}

function centralEntries(directory: Buffer, archive: string): ZipEntry[] {
  const entries: ZipEntry[] = [];
  for (let at = 0; at < directory.length;) {
    if (at + CENTRAL_BYTES > directory.length || directory.readUInt32LE(at) !== CENTRAL) {
      throw new BuildError('failed', `${archive}: the table of contents is broken`);
    }
    const method = directory.readUInt16LE(at + 10);
    const [nameBytes, extraBytes, commentBytes] = [28, 30, 32].map((field) => directory.readUInt16LE(at + field));
    const name = directory.toString('utf8', at + CENTRAL_BYTES, at + CENTRAL_BYTES + Number(nameBytes));
    if (method !== STORED && method !== DEFLATED) {
      throw new BuildError('failed', `${archive}: '${name}' is packed by method ${method}, which no wheel uses`);
    }
    entries.push({
      name,
      isDeflated: method === DEFLATED,
      compressedBytes: directory.readUInt32LE(at + 20),
      bytes: directory.readUInt32LE(at + 24),
      offset: directory.readUInt32LE(at + 42),
    });
    at += CENTRAL_BYTES + Number(nameBytes) + Number(extraBytes) + Number(commentBytes);
  }
  return entries;
}

/** Unpacks one file of an archive. @throws BuildError when it is not as long as the archive says. */
export async function extractEntry(archive: string, entry: ZipEntry, target: string): Promise<void> {
  const file = await open(archive);
  const header = await read(file, entry.offset, entry.offset + LOCAL_BYTES).finally(() => file.close());
  const start = entry.offset + LOCAL_BYTES + header.readUInt16LE(26) + header.readUInt16LE(28);
  const output = createWriteStream(target);
  if (entry.compressedBytes === 0) {
    await pipeline([], output);
    return;
  }
  const packed = createReadStream(archive, { start, end: start + entry.compressedBytes - 1 });
  await (entry.isDeflated ? pipeline(packed, createInflateRaw(), output) : pipeline(packed, output));
  if (output.bytesWritten !== entry.bytes) {
    throw new BuildError(
      'failed',
      `${archive}: '${entry.name}' has ${output.bytesWritten} bytes, expected ${entry.bytes}`,
    );
  }
}

async function read(file: FileHandle, start: number, end: number): Promise<Buffer> {
  const buffer = Buffer.alloc(end - start);
  await file.read(buffer, 0, buffer.length, start);
  return buffer;
}
