import type { Storage } from '../storage.js';

/** Stands in a folder's configuration while its other files are written anew. PEFT and transformers know no such type, either. */
const MARK = {
  peft_type: 'INCOMPLETE_SAVE',
  model_type: 'incomplete_save',
  incomplete_save: 'a save into this folder was cut short: its files are of different saves; save it again',
};

/** The files of a folder, of which none means anything without all others. */
export interface FolderFiles {
  /** The configuration, without which nobody opens the folder. */
  readonly config: { readonly path: string; readonly bytes: Uint8Array };
  /** Everything else, in this order. */
  readonly others: readonly { readonly path: string; readonly bytes: Uint8Array }[];
}

/**
 * Writes a folder such that no reader ever takes files of two saves for one: an older configuration is replaced by a mark first,
 * and the new one comes last. Who is killed in between leaves a folder that says so when it is opened.
 * @throws CheckpointError when a file cannot be written.
 */
export async function writeFolder(storage: Storage, { config, others }: FolderFiles): Promise<void> {
  if (await storage.exists(config.path)) {
    await storage.write(config.path, new TextEncoder().encode(`${JSON.stringify(MARK, null, 2)}\n`));
  }
  for (const { path, bytes } of others) await storage.write(path, bytes);
  await storage.write(config.path, config.bytes);
}

/** What is wrong with a folder whose configuration this is, where a save into it was cut short. */
export function incompleteSave(config: unknown): string | undefined {
  const isMark = typeof config === 'object' && config !== null && 'incomplete_save' in config;
  return isMark ? MARK.incomplete_save : undefined;
}
