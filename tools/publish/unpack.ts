/*
 * npx tsx --conditions @peftjs/source tools/publish/unpack.ts ARCHIVE FOLDER
 *
 * Writes the result files of an archive into a folder: `peft-bench report` and `peft-bench run --out` read them there.
 */
import { unpack } from './archive.js';

const [archive, folder] = process.argv.slice(2);
if (!archive || !folder) throw new RangeError('expected the path of an archive and a folder');
await unpack(archive, folder);
