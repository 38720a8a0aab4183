const REMEDIES: Readonly<Record<string, string>> = {
  ENOSPC: 'Make room on the disk',
  EDQUOT: 'Make room in the quota',
  EROFS: 'Make the file system writable',
  EACCES: 'Change the permissions',
  EPERM: 'Change the permissions',
  EMFILE: 'Allow more open files (ulimit -n)',
  ENFILE: 'Allow more open files',
  ERR_MODULE_NOT_FOUND: 'Install it, or allow more open files (ulimit -n)', // Node's word for both
};

/** Says what to do about an error of the operating system; undefined for any other error. */
export function remedyFor(error: unknown): string | undefined {
  const { code } = (error ?? {}) as { readonly code?: unknown };
  return typeof code === 'string' ? REMEDIES[code] : undefined;
}
