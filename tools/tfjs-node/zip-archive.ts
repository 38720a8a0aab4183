import { buffer } from 'node:stream/consumers';
import { ZipFile } from 'yazl';

/** A file to be packed. */
export interface Packed {
  readonly name: string;
  readonly content: Buffer;
  /** Deflated, or as it is. */
  readonly compress: boolean;
}

/** A zip file, for tests. */
export function zipArchive(files: readonly Packed[]): Promise<Buffer> {
  const zip = new ZipFile();
  for (const { name, content, compress } of files) zip.addBuffer(content, name, { compress });
  zip.end();
  return buffer(zip.outputStream);
}
