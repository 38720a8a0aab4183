/**
 * Replaces the files of a folder on the disk. Whatever interrupts a save, and however many processes save at once, a
 * reader finds one whole save.
 *
 * 1. All files are written and flushed in a hidden folder of this save's own.
 * 2. That folder is renamed to `.peftjs-save`. This fails while another save is there, because a folder that is not
 *    empty cannot be replaced; the other save is then completed first.
 * 3. The files are moved out of it: first a mark to the configuration's place, last the configuration.
 *
 * Moving the mark decides: whoever reads the folder or saves into it from then on completes the save, and a reader who
 * may not write reads the files where they are. Other programs see the old files, the mark, or the new files. Every
 * file is moved once, however many processes try, because no other save has files of the same path. So there is no lock
 * that a killed process could leave.
 *
 * A folder may come from anywhere, so a save in it is only followed if nothing in it leads out of the folder.
 */
import { CheckpointError } from '../errors.js';
import { incompleteSave, stepsOf, type FolderFiles, type StoredFile } from '../storage.js';
import { codeOf, flushFolder, folderOf, reason, writeFlushed, type FileSystem } from './files.js';
import { isDeadTag, ownTag } from './process-identity.js';

/** The name of the folder whose files are being moved to their places. */
const MOVING = '.peftjs-save';
/** Matches the folder of a save that is being written, with the tag of its process. */
const STAGED = /^\.peftjs-save-(.+)-\w+\.tmp$/;

interface Save {
  readonly files: FolderFiles;
  /** The folder that is replaced. */
  readonly folder: string;
  /** The save's own folder in it. */
  readonly staged: string;
  /** The folder in that one which holds the files. Its name is unique. */
  readonly inner: string;
}

/**
 * Replaces the files of folders. All of them are written before any folder changes.
 * @throws CheckpointError naming the folder that cannot be written.
 */
export async function replaceFolders(fs: FileSystem, folders: readonly FolderFiles[]): Promise<void> {
  const tag = await ownTag();
  const saves = folders.map((files): Save => {
    for (const step of stepsOf(files)) assertMovable(nameOf(step, files));
    const id = Math.random().toString(36).slice(2);
    const folder = folderOf(files.config.path);
    const staged = `${folder}/${MOVING}-${tag}-${id}.tmp`;
    return { files, folder, staged, inner: `${staged}/${id}` };
  });
  let at = '';
  try {
    for (const write of [stage, commit]) {
      for (const save of saves) {
        at = save.folder;
        await write(fs, save);
      }
    }
  } catch (cause) {
    for (const { staged } of saves) await fs.rm(staged, { recursive: true, force: true }).catch(() => undefined);
    throw new CheckpointError(
      `cannot save into ${at}: ${reason(cause)}; make room on the disk, make the folder writable or choose another one, then save again`,
      at,
      cause,
    );
  }
}

async function stage(fs: FileSystem, { files, folder, staged, inner }: Save): Promise<void> {
  await fs.mkdir(folder, { recursive: true });
  await removeAbandoned(fs, folder);
  for (const path of [staged, inner]) await fs.mkdir(path); // on a read-only disk, `recursive` gives the wrong reason
  for (const [index, step] of stepsOf(files).entries()) {
    const file = nameOf(step, files).replace('/', SLASH);
    await writeFlushed(fs, `${inner}/${String(index).padStart(INDEX_DIGITS, '0')}-${file}`, step.bytes);
  }
  await flushFolder(fs, inner);
  await flushFolder(fs, staged);
}

/** The digits of a file's place in the order of moving, with which its name in the save's folder begins. */
const INDEX_DIGITS = 6;
/** What stands for a slash in that name. */
const SLASH = '%2F';
/** Matches the path of a file in a folder, or in a folder directly in it. */
const INSIDE = /^[^./\\][^/\\]*(?:\/[^./\\][^/\\]*)?$/;

/** Returns a file's path in the folder of its save. */
function nameOf({ path }: StoredFile, { config }: FolderFiles): string {
  return path.slice(config.path.lastIndexOf('/') + 1);
}

/** Whoever completes a save moves only files like these, so no other may be in one. */
function assertMovable(file: string): void {
  if (INSIDE.test(file) && !file.includes(SLASH)) return;
  throw new CheckpointError(
    `cannot save a file '${file}': expected a name in the folder, or in a folder directly in it, without a dot at its beginning, \\ or ${SLASH}`,
    file,
  );
}

/** Removes what killed processes have left. */
async function removeAbandoned(fs: FileSystem, folder: string): Promise<void> {
  for (const name of await fs.readdir(folder)) {
    const [, tag] = STAGED.exec(name) ?? [];
    if (tag !== undefined && (await isDeadTag(tag))) await fs.rm(`${folder}/${name}`, { recursive: true, force: true });
  }
}

async function commit(fs: FileSystem, { folder, staged }: Save): Promise<void> {
  const isMoving = (): Promise<boolean> =>
    fs.rename(staged, `${folder}/${MOVING}`).then(
      () => true,
      (error: unknown) => {
        if (codeOf(error) === 'ENOTEMPTY' || codeOf(error) === 'EEXIST') return false;
        throw error;
      },
    );
  do await complete(fs, folder);
  while (!(await isMoving()));
  await flushFolder(fs, folder);
  await complete(fs, folder);
  await flushFolder(fs, folder);
}

/** Moves the files of the folder's save to their places, if there is one. */
async function complete(fs: FileSystem, folder: string): Promise<void> {
  const save = await movingSave(fs, folder);
  for (const { source, file } of save?.isVoid === false ? save.steps : []) {
    const target = `${folder}/${file}`;
    await fs.mkdir(folderOf(target), { recursive: true });
    if (file.includes('/') && !(await isFolder(fs, folderOf(target)))) {
      throw new CheckpointError(`${folderOf(target)} is a link`, target);
    }
    await fs.rename(source, target).catch(unlessMissing); // another process has moved it
  }
  if (save) await fs.rm(save.path, { recursive: true, force: true });
  await fs.rmdir(`${folder}/${MOVING}`).catch(() => undefined); // it is gone, or holds the next save
}

/** Returns where a file is: in its place, or in a save of its folder, or of the one above, that cannot be completed. */
export async function currentPath(fs: FileSystem, path: string): Promise<string> {
  const own = folderOf(path);
  for (const folder of new Set([own, folderOf(own)])) {
    const decided = async (): Promise<readonly Step[]> => {
      const save = await movingSave(fs, folder).catch(() => undefined); // reading the file says what is wrong
      return save?.isDecided ? save.steps : [];
    };
    if ((await decided()).length === 0) continue;
    await complete(fs, folder).catch(() => undefined); // the folder is read-only
    const left = (await decided()).findLast(({ file }) => path === file || path === `${folder}/${file}`);
    if (left) return left.source;
  }
  return path;
}

/** How often a file is read until it is no mark: each time, the save that left the mark is completed. */
const MOST_TRIES = 10;

/** Reads a file of the last save of its folder, while others may save into it. */
export async function readFile(fs: FileSystem, path: string): Promise<Uint8Array> {
  for (let tries = 1; ; tries++) {
    const bytes = await whereItIs(fs, path, (at) => fs.readFile(at));
    if (tries === MOST_TRIES || !isMark(bytes)) return bytes;
  }
}

/** Opens or reads a file where it is. If a save moves it to its place just then, it is looked for again. */
export async function whereItIs<T>(fs: FileSystem, path: string, read: (at: string) => Promise<T>): Promise<T> {
  const at = await currentPath(fs, path);
  try {
    return await read(at);
  } catch (error) {
    if ((await currentPath(fs, path)) === at) throw error;
    return whereItIs(fs, path, read);
  }
}

/** A file that is still to be moved to its place. */
interface Step {
  readonly source: string;
  /** Its path in the folder. */
  readonly file: string;
}

/** The save in a folder whose files are being moved. */
interface MovingSave {
  readonly path: string;
  /** What is still to be moved, in this order. */
  readonly steps: readonly Step[];
  /** Whether the mark is in place. */
  readonly isDecided: boolean;
  /** Whether it may not be completed: another program has replaced the mark since, or did not write it as we do. */
  readonly isVoid: boolean;
}

async function movingSave(fs: FileSystem, folder: string): Promise<MovingSave | undefined> {
  const [id] = await namesIn(fs, `${folder}/${MOVING}`);
  if (id === undefined) return undefined;
  const path = `${folder}/${MOVING}/${id}`;
  const names = (await namesIn(fs, path)).sort();
  const steps = names.map((name) => ({
    source: `${path}/${name}`,
    file: name.slice(INDEX_DIGITS + 1).replace(SLASH, '/'),
  }));
  const isOurs = steps.every(({ file }) => INSIDE.test(file));
  const isBegun = Number(names[0]?.slice(0, INDEX_DIGITS)) !== 0;
  const isDecided = isOurs && (await isMarked(fs, `${folder}/${steps.at(-1)?.file ?? ''}`));
  return { path, steps, isDecided, isVoid: !isOurs || (isBegun && !isDecided) };
}

/** Returns the names in a folder; none for a link or a file, and if there is no such folder. */
async function namesIn(fs: FileSystem, folder: string): Promise<string[]> {
  try {
    return (await isFolder(fs, folder)) ? await fs.readdir(folder) : [];
  } catch (error) {
    unlessMissing(error);
    return [];
  }
}

async function isFolder(fs: FileSystem, path: string): Promise<boolean> {
  return (await fs.lstat(path)).isDirectory();
}

async function isMarked(fs: FileSystem, config: string): Promise<boolean> {
  return isMark(await fs.readFile(config).catch(() => new Uint8Array()));
}

/** More bytes than a mark has. */
const MARK_BYTES = 1000;

function isMark(bytes: Uint8Array): boolean {
  try {
    return bytes.length < MARK_BYTES && incompleteSave(JSON.parse(new TextDecoder().decode(bytes))) !== undefined;
  } catch {
    return false;
  }
}

function unlessMissing(error: unknown): void {
  if (codeOf(error) !== 'ENOENT' && codeOf(error) !== 'ENOTDIR') throw error;
}
