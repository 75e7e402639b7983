# Linux's boot protocol (Documentation/arch/x86/boot.rst), from the boot loader to 64-bit mode.
# Intel syntax.

# The boot sector, of which only the header at 0x1f1 counts, and one sector of code in real mode.
.section .setup, "ax"
.code16

    .org 0x1f1
    .byte 1                     # setup_sects: after the boot sector
    .org 0x1fe
    .word 0xaa55                # boot_flag
    jmp real_mode
    .ascii "HdrS"
    .word 0x0206                # protocol version
    .org 0x211
    .byte 1                     # loadflags: LOADED_HIGH
    .org 0x214
    .long 0x100000              # code32_start
    .long 0                     # ramdisk_image, which the boot loader fills in
    .long 0                     # ramdisk_size, likewise
    .org 0x22c
    .long 0x37ffffff            # initrd_addr_max
    .long 0x100000              # kernel_alignment
    .org 0x238
    .long 255                   # cmdline_size
    .org 0x240
real_mode:
    cli
    cld
    # Linked at 0, and DS is where it was loaded.
    xor eax, eax
    mov ax, ds
    shl eax, 4
    mov esi, eax
    add eax, offset gdt
    mov dword ptr [gdtr + 2], eax
    lgdt [gdtr]
    mov eax, cr0
    or al, 1
    mov cr0, eax
    # jmp 0x18:0x100000
    .byte 0x66, 0xea
    .long 0x100000
    .word 0x18
    .balign 8
gdt:
    .quad 0
    .quad 0x00af9b000000ffff    # 0x08: 64-bit code
    .quad 0x00cf93000000ffff    # 0x10: data
    .quad 0x00cf9b000000ffff    # 0x18: 32-bit code
gdtr:
    .word 0x1f
    .long 0
    .org 0x400

# Loaded at 1 MiB; ESI has the address of the header above.
.section .text.entry, "ax"
.code32
.global entry
entry:
    mov eax, 0x10
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov esp, offset stack_end
    mov ebp, esi
    mov edi, offset directory
    mov ecx, offset stack_end
    sub ecx, edi
    xor eax, eax
    rep stosb
    # 1 GiB mapped to itself in pages of 2 MiB.
    mov edi, offset directory
    mov eax, 0x83
    mov ecx, 512
2:  mov [edi], eax
    add eax, 0x200000
    add edi, 8
    loop 2b
    mov eax, offset directory + 3
    mov [pointers], eax
    mov eax, offset pointers + 3
    mov [level4], eax
    mov eax, offset level4 + 3
    mov [level5], eax
    # CR4.PAE, and where the CPU has it CR4.LA57: CPUID.(7,0):ECX[16].
    mov edi, 0x20
    mov esi, offset level4
    xor eax, eax
    cpuid
    cmp eax, 7
    jb 3f
    mov eax, 7
    xor ecx, ecx
    cpuid
    test ecx, 0x10000
    jz 3f
    or edi, 0x1000
    mov esi, offset level5
3:  mov cr4, edi
    mov cr3, esi
    # EFER.LME and NXE.
    mov ecx, 0xc0000080
    rdmsr
    or eax, 0x900
    wrmsr
    # CR0: PG, WP, NE, ET, PE.
    mov eax, 0x80010031
    mov cr0, eax
    mov edi, ebp
    # jmp 0x08:long_mode
    .byte 0xea
    .long long_mode
    .word 0x08
.code64
long_mode:
    mov edi, edi
    call start
4:  hlt
    jmp 4b

.section .bss.boot, "aw", @nobits
.balign 4096
directory: .skip 4096
pointers: .skip 4096
level4: .skip 4096
level5: .skip 4096
stack: .skip 65536
stack_end:
