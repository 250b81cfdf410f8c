/*
 * What a host could hand the guest as a table: code that reads and writes the guest's memory. Each device tries one thing when
 * the kernel initialises it, and says so on a port that QEMU writes to a file: a letter before, what it found, a letter after.
 * At 0x30000000 the test put 16 bytes that only reading yields; 32 bytes on, the code writes others. The last device
 * reads a table, this one, through a region of that kind.
 */
DefinitionBlock ("", "SSDT", 2, "SUBRSA", "MEMORY", 1)
{
    Scope (\_SB)
    {
        OperationRegion (PORT, SystemIO, 0xE9, 1)
        Field (PORT, ByteAcc, NoLock, Preserve) { SAID, 8 }
        OperationRegion (PRAM, SystemMemory, 0x30000000, 0x40)
        Field (PRAM, DWordAcc, NoLock, Preserve) { SCRT, 128, Offset (0x20), TRGT, 128 }
        DataTableRegion (TABL, "SSDT", "SUBRSA", "MEMORY")
        Field (TABL, DWordAcc, NoLock, Preserve) { SIGN, 32 }

        Device (MREA)
        {
            Name (_ADR, Zero)
            Method (_INI, 0, Serialized)
            {
                SAID = 0x52 // R
                Local0 = SCRT
                Local1 = Zero
                While (Local1 < 16)
                {
                    SAID = DerefOf (Local0 [Local1])
                    Local1++
                }
                SAID = 0x72 // r
            }
        }

        Device (MWRI)
        {
            Name (_ADR, One)
            Method (_INI, 0, Serialized)
            {
                SAID = 0x57 // W
                TRGT = Buffer (16) { 0x5A, 0xA5, 0x5A, 0xA5, 0x53, 0x55, 0x42, 0x52, 0x4F, 0x53, 0x41, 0xA5, 0x5A, 0xA5, 0x5A, 0xA5 }
                SAID = 0x77 // w
            }
        }

        Device (MTAB)
        {
            Name (_ADR, 2)
            Method (_INI, 0, Serialized)
            {
                SAID = 0x54 // T
                Local0 = SIGN
                SAID = 0x74 // t
            }
        }
    }
}
