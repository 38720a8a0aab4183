/** Reads a file of an installed npm package, e.g. ('sentiment', 'test/fixtures/yelp.json'). */
export type ReadPackageFile = (packageName: string, path: string) => Promise<Uint8Array>;

/** Seed of the embedded tasks' splits: part of the tasks, not of a run. */
export const embeddedSeed = 7;
