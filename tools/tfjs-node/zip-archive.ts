import { buffer } from 'node:stream/consumers';
import { ZipFile } from 'yazl';

/** A file to pack. */
export interface Packed {
  /** Its path in the archive. */
  readonly name: string;
  /** Its content. */
  readonly content: Buffer;
  /** Whether to deflate it rather than store it. */
  readonly compress: boolean;
}

/** Returns a zip file with these files, for tests. */
export function zipArchive(files: readonly Packed[]): Promise<Buffer> {
  const zip = new ZipFile();
  for (const { name, content, compress } of files) zip.addBuffer(content, name, { compress });
  zip.end();
  return buffer(zip.outputStream);
}
