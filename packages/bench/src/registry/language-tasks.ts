import { open } from 'node:fs/promises';
import { basename, extname } from 'node:path';
import { ConfigError, DataError, type Storage } from '@peftjs/core';
import { isLanguageFile, readLanguageTask, type DocumentEnd, type LanguageTask } from '@peftjs/tasks';

/** A training file and the one that results are reported on. */
export interface TaskFiles {
  readonly train: string;
  readonly dev: string;
}

/** As much of a file as its first line can take. */
const HEAD_BYTES = 4 * 2 ** 20;

/**
 * Whether two files are for a language model: text, or JSON lines without labels.
 * @throws DataError where one of them is and the other is not, or cannot be read.
 */
export async function areLanguageFiles({ train, dev }: TaskFiles): Promise<boolean> {
  const [isTrain, isDev] = [await isLanguage(train), await isLanguage(dev)];
  if (isTrain === isDev) return isTrain;
  const [language, table] = isTrain ? [train, dev] : [dev, train];
  throw new DataError(
    `${basename(language)} is for a language model and ${basename(table)} is a table with labels; give two files of one kind`,
    dev,
  );
}

/** Reads a language task. @throws ConfigError for a `documentEnd` that neither file has, DataError for a malformed file. */
export async function readLanguageFiles(
  name: string,
  { train, dev }: TaskFiles,
  documentEnd: DocumentEnd | undefined,
  storage: Storage,
): Promise<LanguageTask> {
  const isText = (path: string): boolean => extname(path).toLowerCase() === '.txt';
  if (documentEnd !== undefined && !isText(train) && !isText(dev)) {
    throw new ConfigError(
      `--document-end cuts .txt files; every line of ${basename(train)} is a document already`,
      'document-end',
    );
  }
  return readLanguageTask({ name, train, dev, documentEnd, storage });
}

async function isLanguage(path: string): Promise<boolean> {
  return extname(path).toLowerCase() === '.jsonl'
    ? isLanguageFile(await headOf(path), path)
    : isLanguageFile(new Uint8Array(), path);
}

async function headOf(path: string): Promise<Uint8Array> {
  try {
    const file = await open(path);
    try {
      const { bytesRead, buffer } = await file.read(new Uint8Array(HEAD_BYTES), 0, HEAD_BYTES, 0);
      return buffer.subarray(0, bytesRead);
    } finally {
      await file.close();
    }
  } catch (cause) {
    throw new DataError(`cannot read ${path}: ${cause instanceof Error ? cause.message : String(cause)}`, path, cause);
  }
}
